// One task of the forward pass. Compiled once per instruction set (simd-inl.h).
//
// Scores are held transposed, [key, query], with the queries along the vector lanes. So the running
// maximum and sum of a query are lanes of plain vectors, nothing is ever reduced across lanes, k
// and v are read as scalars in their own layout, and no size but the number of queries needs
// padding.
#ifndef KERNELS_ATTENTION_CPU_FORWARD_INL_H_
#define KERNELS_ATTENTION_CPU_FORWARD_INL_H_

#include "kernels/attention/cpu_hidden-inl.h"
#include "kernels/attention/cpu_queries-inl.h"
#include "kernels/attention/cpu_softmax-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

// A block of queries and its results so far.
template <typename T>
struct ForwardBlock {
  QueryBlock block;
  int64_t lanes;
  Span keys;       // It sees no others.
  T* q_columns;    // [padded_d, kBlockQ], scaled.
  T* out_columns;  // [padded_d, kBlockQ], not yet normalised.
  Softmax<T> softmax;
  QueryLanes<T>* features;
};

// What all blocks of a task share.
template <typename T>
struct ForwardContext {
  const Problem& p;
  const Extras& extras;
  const SegmentTable& segments;
  ScoreOptions<T> options;
  int64_t padded_d;
  T* rows;    // Scratch [kBlockQ, padded_d].
  T* scores;  // Scratch [kForwardBlockK, kBlockQ].
};

// Keys [first, first + count), as the left operands of products.
template <typename T>
struct Keys {
  int64_t first;
  int64_t count;
  Rows<T> k;
  Rows<T> v;
};

template <typename T>
constexpr int64_t kLaneState = 3 * kBlockQ + sizeof(QueryLanes<T>) / sizeof(T);

// Sets a block up in `memory`.
template <typename In, typename T>
ForwardBlock<T> BeginBlock(const ForwardContext<T>& c, const void* q, const QueryBlock& block,
                           T* memory) {
  const int64_t tile = kBlockQ * c.padded_d;
  T* state = memory + 2 * tile;
  const ForwardBlock<T> b{block,
                          RoundUp(NumRows(block), kLanes<T>),
                          VisibleKeys(c.p, c.segments, block.batch, Queries(block)),
                          memory,
                          memory + tile,
                          {state, state + kBlockQ, state + 2 * kBlockQ},
                          reinterpret_cast<QueryLanes<T>*>(state + 3 * kBlockQ)};
  PackBlock<In>(c.p, &c.extras, block, q, b.lanes, c.rows, c.padded_d);
  TransposeTile(c.rows, c.padded_d, b.lanes, c.padded_d, c.options.product_factor, b.q_columns,
                kBlockQ);
  std::memset(b.out_columns, 0, tile * sizeof(T));
  ResetSoftmax(b.lanes, b.softmax);
  DescribeLanes(c.p, c.extras, block, b.lanes, b.features);
  return b;
}

template <typename T>
Keys<T> Part(const Keys<T>& keys, int64_t skip, int64_t count) {
  return {keys.first + skip,
          count,
          {keys.k.data + skip * keys.k.stride, keys.k.stride},
          {keys.v.data + skip * keys.v.stride, keys.v.stride}};
}

// Takes the keys of one tile into a block's results.
template <typename T>
void FoldTile(const ForwardContext<T>& c, const Keys<T>& keys, const Tile& tile,
              const ForwardBlock<T>& b) {
  const int64_t d = c.p.head_dim, lane = tile.first_lane;
  const int64_t vectors = (tile.lanes - lane) / kLanes<T>;
  T* scores = c.scores + lane;
  T* out = b.out_columns + lane;
  Multiply<Previous::kOverwrite, T>({keys.k.data, keys.k.stride, 1}, keys.count, d,
                                    b.q_columns + lane, kBlockQ, vectors, scores, kBlockQ);
  if (NeedsFinish(c.options, tile)) FinishScores(c.options, *b.features, tile, T{1}, c.scores);
  const bool rescale = UpdateSoftmax(scores, keys.count, tile.lanes - lane, From(b.softmax, lane));
  if (c.options.has_dropout) DropProbabilities(c.options, *b.features, tile, c.scores);
  const LeftOperand<T> v{keys.v.data, 1, keys.v.stride};
  if (tile.is_masked && !AllFinite(keys.v.data, keys.count, keys.v.stride)) {
    if (rescale) {
      Multiply<Previous::kScaleAndAdd, T>(v, d, 0, scores, kBlockQ, vectors, out, kBlockQ,
                                          b.softmax.rescale + lane);
    }
    SplitAtRows(
        keys.v.data, keys.count, keys.v.stride,
        [&](int64_t first, int64_t count) {
          Multiply<Previous::kAdd, T>({v.data + first * v.k_step, 1, v.k_step}, d, count,
                                      scores + first * kBlockQ, kBlockQ, vectors, out, kBlockQ);
        },
        [&](int64_t j) {
          AddToLanes(c.options, *b.features, tile, keys.first + j, v.data + j * v.k_step, d,
                     c.scores + j * kBlockQ, b.out_columns);
        });
  } else if (rescale) {
    Multiply<Previous::kScaleAndAdd, T>(v, d, keys.count, scores, kBlockQ, vectors, out, kBlockQ,
                                        b.softmax.rescale + lane);
  } else {
    Multiply<Previous::kAdd, T>(v, d, keys.count, scores, kBlockQ, vectors, out, kBlockQ);
  }
}

// Takes keys into a block's results, in one tile if all queries see all of them.
template <typename T>
void FoldKeys(const ForwardContext<T>& c, const Keys<T>& keys, const ForwardBlock<T>& b) {
  const Span span{keys.first, keys.first + keys.count};
  const TileKind kind = ClassifyTile(c.p, c.segments, b.block.batch, Queries(b.block), span);
  if (kind == TileKind::kEmpty) return;
  if (kind == TileKind::kPartial && keys.count > kSmallestTile) {
    const int64_t half = RoundUp(CeilDiv(keys.count, 2), kSmallestTile);
    FoldKeys(c, Part(keys, 0, half), b);
    FoldKeys(c, Part(keys, half, keys.count - half), b);
    return;
  }
  const Span lanes = LanesThatSee<T>(c.p, b.block, b.lanes, span);
  const bool is_masked = kind == TileKind::kPartial;
  FoldTile(c, keys, {keys.first, keys.count, lanes.end, kBlockQ, is_masked, lanes.begin}, b);
}

// The keys of the panel that a block sees, one tile after the other.
template <typename T>
void FoldPanel(const ForwardContext<T>& c, const Keys<T>& panel, const ForwardBlock<T>& b) {
  const int64_t end =
      b.keys.end < panel.first + panel.count ? b.keys.end : panel.first + panel.count;
  int64_t j = b.keys.begin > panel.first ? b.keys.begin : panel.first;
  while (j < end) {
    // Tiles end at multiples of kForwardBlockK, whatever the panel: results do not depend on the
    // plan.
    const int64_t limit = (j / kForwardBlockK + 1) * kForwardBlockK;
    const int64_t next = limit < end ? limit : end;
    FoldKeys(c, Part(panel, j - panel.first, next - j), b);
    j = next;
  }
}

// Writes a block's out and lse.
template <typename In, typename T>
void EndBlock(const ForwardContext<T>& c, const ForwardBlock<T>& b, const ForwardTensors& t) {
  FinishSoftmax(b.lanes, c.options.dropout_factor, b.softmax);
  for (int64_t channel = 0; channel < c.p.head_dim; ++channel) {
    for (int64_t i = 0; i < b.lanes; ++i) {
      b.out_columns[channel * kBlockQ + i] *= b.softmax.rescale[i];
    }
  }
  TransposeTile(b.out_columns, kBlockQ, c.padded_d, b.lanes, T{1}, c.rows, c.padded_d);
  UnpackBlock<In>(c.p, b.block, c.rows, c.padded_d, T{1}, t.out);
  for (int64_t h = 0; h < b.block.num_heads; ++h) {
    T* lse = static_cast<T*>(t.lse) + LaneOffset(c.p, b.block, h);
    for (int64_t i = 0; i < b.block.count; ++i) {
      lse[i] = LogSumExp(b.softmax, h * b.block.count + i);
    }
  }
}

template <typename In, typename T>
void ForwardTask(const Problem& p, const ForwardTensors& t, const ForwardPlan& plan, int64_t task,
                 void* scratch) {
  const int64_t padded_d = RoundUp(p.head_dim, kPadding), tile = kBlockQ * padded_d;
  const int64_t num_heads = p.batch * p.num_kv_heads;
  const int64_t kv_head = task % num_heads % p.num_kv_heads;
  const int64_t batch = task % num_heads / p.num_kv_heads;
  // Under a causal mask the last queries have the most keys: starting with them evens out the
  // threads.
  const int64_t first_block = (plan.tasks_per_head - 1 - task / num_heads) * plan.blocks_per_task;
  const int64_t end_block = first_block + plan.blocks_per_task < plan.blocks.count
                                ? first_block + plan.blocks_per_task
                                : plan.blocks.count;

  T* scores = static_cast<T*>(scratch);
  T* rows = scores + kForwardBlockK * kBlockQ;
  T* k_rows = rows + tile;
  T* v_rows = k_rows + kForwardPanelK * padded_d;
  T* memory = v_rows + kForwardPanelK * padded_d;
  const ForwardContext<T> c{
      p, t.extras, plan.segments, MakeScoreOptions<T>(p, t.extras, batch), padded_d, rows, scores};
  ForwardBlock<T> blocks[kMaxBlocksPerTask] = {};
  int64_t num_blocks = 0;
  Span keys{p.seq_k, 0};
  for (int64_t i = first_block; i < end_block; ++i, memory += 2 * tile + kLaneState<T>) {
    const ForwardBlock<T> b =
        BeginBlock<In>(c, t.q, BlockAt(p, plan.blocks, batch, kv_head, i), memory);
    blocks[num_blocks++] = b;
    if (b.keys.begin < keys.begin) keys.begin = b.keys.begin;
    if (b.keys.end > keys.end) keys.end = b.keys.end;
  }

  for (int64_t j = keys.begin / kForwardBlockK * kForwardBlockK; j < keys.end;
       j += kForwardPanelK) {
    const int64_t count = keys.end - j < kForwardPanelK ? keys.end - j : kForwardPanelK;
    PackKeys<In>(p, &t.extras, batch, kv_head, j, count, t.k, k_rows, padded_d);
    PackKeys<In>(p, nullptr, batch, kv_head, j, count, t.v, v_rows, padded_d);
    const Keys<T> panel{j, count, {k_rows, padded_d}, {v_rows, padded_d}};
    for (int64_t b = 0; b < num_blocks; ++b) FoldPanel(c, panel, blocks[b]);
  }
  for (int64_t b = 0; b < num_blocks; ++b) EndBlock<In>(c, blocks[b], t);
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_FORWARD_INL_H_
