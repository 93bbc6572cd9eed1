// The tasks of the backward pass. Compiled once per instruction set (simd-inl.h).
//
// With P = softmax(S) recomputed from lse, and [key, query] tiles as in the forward pass:
//   grad_v = P grad_out        dP = v grad_out^T        dS = P * (dP - delta)
//   grad_k = scale dS q        grad_q^T = scale k^T dS
#ifndef KERNELS_ATTENTION_CPU_BACKWARD_INL_H_
#define KERNELS_ATTENTION_CPU_BACKWARD_INL_H_

#include "kernels/attention/cpu_hidden-inl.h"
#include "kernels/attention/cpu_queries-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

// A sum of products, in parts, so that the additions become vectors.
template <typename In, typename T>
T Dot(const In* a, const In* b, int64_t count) {
  constexpr int kSums = 16;
  T sums[kSums] = {};
  int64_t c = 0;
  for (; c + kSums <= count; c += kSums) {
    for (int s = 0; s < kSums; ++s) sums[s] += T{Widen(a[c + s])} * Widen(b[c + s]);
  }
  for (; c < count; ++c) sums[0] += T{Widen(a[c])} * Widen(b[c]);
  for (int half = kSums / 2; half > 0; half /= 2) {
    for (int s = 0; s < half; ++s) sums[s] += sums[s + half];
  }
  return sums[0];
}

template <typename In, typename T>
void DeltaTask(const Problem& p, const BackwardTensors& t, int64_t task) {
  const int64_t num_blocks = CeilDiv(p.seq_q, kBlockQ), batch = task / num_blocks;
  const int64_t i0 = task % num_blocks * kBlockQ;
  const int64_t i1 = i0 + kBlockQ < p.seq_q ? i0 + kBlockQ : p.seq_q;
  for (int64_t i = i0; i < i1; ++i) {
    for (int64_t head = 0; head < p.num_heads; ++head) {
      const int64_t offset = ((batch * p.seq_q + i) * p.num_heads + head) * p.head_dim;
      const int64_t row = (batch * p.num_heads + head) * p.seq_q + i;
      T delta = Dot<In, T>(static_cast<const In*>(t.out) + offset,
                           static_cast<const In*>(t.grad_out) + offset, p.head_dim);
      if (t.grad_lse != nullptr) delta -= static_cast<const T*>(t.grad_lse)[row];
      static_cast<T*>(t.delta)[row] = delta;
    }
  }
}

// A block of queries and all that goes with it: rows [query, head_dim], columns transposed.
template <typename T>
struct BackwardBlock {
  QueryBlock block;
  int64_t lanes;
  T *q_rows, *q_columns, *grad_rows, *grad_columns;
  T *lse, *delta;  // lse in units of log2.
  QueryLanes<T>* features;
  T* grad_q;       // [padded_d, kBlockQ], accumulated.
  double* slopes;  // SlopeSums, accumulated; null if not wanted.
};

// A block of keys: rows [key, head_dim]; the gradients are accumulated.
template <typename T>
struct KeyBlock {
  int64_t first, count;
  const T *k, *v;
  T *grad_k, *grad_v;
};

// What all tiles of a task share.
template <typename T>
struct BackwardContext {
  const Problem& p;
  const BackwardTensors& t;
  const BackwardPlan& plan;
  ScoreOptions<T> options;
  int64_t batch, kv_head, chunk, padded_d;
  T *scores, *grad_scores;  // Scratch [kBlockK, kBlockQ].
  T* block_memory;          // Scratch for a BackwardBlock.
};

// DifferentiateScores where nothing but the softmax is to be done.
template <typename T>
void DifferentiateSoftmax(const BackwardBlock<T>& b, const Tile& tile, T* probabilities, T* grad) {
  for (int64_t lane = tile.first_lane; lane < tile.lanes; lane += kLanes<T>) {
    const Vec<T> lse = Load(b.lse + lane), delta = Load(b.delta + lane);
    for (int64_t j = 0; j < tile.num_keys; ++j) {
      T* p = probabilities + j * kBlockQ + lane;
      T* g = grad + j * kBlockQ + lane;
      const Vec<T> probability = Exp2(Load(p) - lse);
      Store(probability, p);
      Store(probability * (Load(g) - delta), g);
    }
  }
}

// grad += weights rows, weights [key, query], summed over the queries of the tile.
template <typename T>
void AddOverQueries(const BackwardContext<T>& c, const BackwardBlock<T>& b, const KeyBlock<T>& keys,
                    const Tile& tile, const T* weights, const T* rows, T* grad) {
  const int64_t stride = c.padded_d, begin = tile.first_lane, num_rows = NumRows(b.block);
  const int64_t count = (num_rows < tile.lanes ? num_rows : tile.lanes) - begin;
  const auto add = [&](int64_t first, int64_t number) {
    Multiply<Previous::kAdd, T>({weights + begin + first, kBlockQ, 1}, keys.count, number,
                                rows + (begin + first) * stride, stride,
                                CeilDiv(c.p.head_dim, kLanes<T>), grad, stride);
  };
  if (!tile.is_masked || AllFinite(rows + begin * stride, count, stride)) return add(0, count);
  SplitAtRows(rows + begin * stride, count, stride, add, [&](int64_t i) {
    AddToKeys(c.options, *b.features, tile, begin + i, rows + (begin + i) * stride, stride, weights,
              grad);
  });
}

// grad_q += k^T dS, summed over the keys of the tile.
template <typename T>
void AddOverKeys(const BackwardContext<T>& c, const BackwardBlock<T>& b, const KeyBlock<T>& keys,
                 const Tile& tile) {
  const int64_t d = c.p.head_dim, stride = c.padded_d, lane = tile.first_lane;
  const auto add = [&](int64_t first, int64_t number) {
    Multiply<Previous::kAdd, T>({keys.k + first * stride, 1, stride}, d, number,
                                c.grad_scores + first * kBlockQ + lane, kBlockQ,
                                (tile.lanes - lane) / kLanes<T>, b.grad_q + lane, kBlockQ);
  };
  if (!tile.is_masked || AllFinite(keys.k, keys.count, stride)) return add(0, keys.count);
  SplitAtRows(keys.k, keys.count, stride, add, [&](int64_t j) {
    AddToLanes(c.options, *b.features, tile, keys.first + j, keys.k + j * stride, d,
               c.grad_scores + j * kBlockQ, b.grad_q);
  });
}

template <typename T>
void BackwardTile(const BackwardContext<T>& c, const BackwardBlock<T>& b, const KeyBlock<T>& keys,
                  const Tile& tile) {
  const int64_t d = c.p.head_dim, stride = c.padded_d, lane = tile.first_lane;
  const int64_t vectors = (tile.lanes - lane) / kLanes<T>;
  T* scores = c.scores + lane;
  T* grad_scores = c.grad_scores + lane;
  Multiply<Previous::kOverwrite, T>({keys.k, stride, 1}, keys.count, d, b.q_columns + lane, kBlockQ,
                                    vectors, scores, kBlockQ);
  Multiply<Previous::kOverwrite, T>({keys.v, stride, 1}, keys.count, d, b.grad_columns + lane,
                                    kBlockQ, vectors, grad_scores, kBlockQ);
  if (NeedsFinish(c.options, tile) || c.options.has_dropout || b.slopes != nullptr) {
    DifferentiateScores(c.options, *b.features, RowTerms<T>{b.lse, b.delta, b.slopes}, tile, T{1},
                        c.scores, c.grad_scores);
  } else {
    DifferentiateSoftmax(b, tile, c.scores, c.grad_scores);
  }
  AddOverQueries(c, b, keys, tile, c.scores, b.grad_rows, keys.grad_v);
  AddOverQueries(c, b, keys, tile, c.grad_scores, b.q_rows, keys.grad_k);
  AddOverKeys(c, b, keys, tile);
}

template <typename T>
KeyBlock<T> Part(const KeyBlock<T>& keys, int64_t skip, int64_t count, int64_t stride) {
  const int64_t offset = skip * stride;
  return {keys.first + skip,   count, keys.k + offset, keys.v + offset, keys.grad_k + offset,
          keys.grad_v + offset};
}

// The tile of a block and some keys, in one piece if all queries see all keys.
template <typename T>
void BackwardKeys(const BackwardContext<T>& c, const BackwardBlock<T>& b, const KeyBlock<T>& keys) {
  const Span span{keys.first, keys.first + keys.count};
  const TileKind kind = ClassifyTile(c.p, c.plan.segments, c.batch, Queries(b.block), span);
  if (kind == TileKind::kEmpty) return;
  if (kind == TileKind::kPartial && keys.count > kSmallestTile) {
    const int64_t half = RoundUp(CeilDiv(keys.count, 2), kSmallestTile);
    BackwardKeys(c, b, Part(keys, 0, half, c.padded_d));
    BackwardKeys(c, b, Part(keys, half, keys.count - half, c.padded_d));
    return;
  }
  const Span lanes = LanesThatSee<T>(c.p, b.block, b.lanes, span);
  const bool is_masked = kind == TileKind::kPartial;
  BackwardTile(c, b, keys, {keys.first, keys.count, lanes.end, kBlockQ, is_masked, lanes.begin});
}

// Sets up all of a block but grad_q and grad_slopes.
template <typename In, typename T>
BackwardBlock<T> PackQueries(const BackwardContext<T>& c, const QueryBlock& block) {
  const int64_t tile = kBlockQ * c.padded_d;
  T* memory = c.block_memory;
  T* lanes = memory + 4 * tile;
  const BackwardBlock<T> b{block,
                           RoundUp(NumRows(block), kLanes<T>),
                           memory,
                           memory + tile,
                           memory + 2 * tile,
                           memory + 3 * tile,
                           lanes,
                           lanes + kBlockQ,
                           reinterpret_cast<QueryLanes<T>*>(lanes + 2 * kBlockQ),
                           nullptr,
                           nullptr};
  PackBlock<In>(c.p, &c.t.extras, block, c.t.q, b.lanes, b.q_rows, c.padded_d);
  PackBlock<In>(c.p, nullptr, block, c.t.grad_out, b.lanes, b.grad_rows, c.padded_d);
  TransposeTile(b.q_rows, c.padded_d, b.lanes, c.padded_d, c.options.product_factor, b.q_columns,
                kBlockQ);
  TransposeTile(b.grad_rows, c.padded_d, b.lanes, c.padded_d, T{1}, b.grad_columns, kBlockQ);
  const T* lse = static_cast<const T*>(c.t.lse) + LaneOffset(c.p, block, 0);
  const T* delta = static_cast<const T*>(c.t.delta) + LaneOffset(c.p, block, 0);
  for (int64_t i = 0; i < b.lanes; ++i) {
    // A query that sees no key has lse -inf; with 0 its masked scores still give P = exp2(-inf).
    const bool sees = i < block.count && lse[i] != static_cast<T>(-kInfinity);
    b.lse[i] = sees ? lse[i] * static_cast<T>(kLog2E) : T{0};
    b.delta[i] = sees ? delta[i] : T{0};
  }
  DescribeLanes(c.p, c.t.extras, block, b.lanes, b.features);
  return b;
}

// What a task accumulates for a block of queries: grad_q [padded_d, kBlockQ], then SlopeSums.
inline int64_t QuerySums(int64_t padded_d) { return (padded_d + kSlopeRows) * kBlockQ; }

template <typename T>
double* SlopeSums(T* sums, int64_t padded_d) {
  return reinterpret_cast<double*>(sums + padded_d * kBlockQ);
}

template <typename T>
T* PartialSums(const BackwardContext<T>& c, int64_t chunk, const QueryBlock& block) {
  const int64_t index = (chunk * c.p.batch + c.batch) * c.p.num_heads + block.head;
  return static_cast<T*>(c.plan.partial_sums) +
         (index * CeilDiv(c.p.seq_q, kBlockQ) + block.first / kBlockQ) * QuerySums(c.padded_d);
}

// Writes grad_q and grad_slopes of a block of queries; `rows` is scratch.
template <typename In, typename T>
void UnpackQuerySums(const BackwardContext<T>& c, const QueryBlock& block, T* sums, T* rows) {
  TransposeTile(sums, kBlockQ, c.padded_d, kBlockQ, T{1}, rows, c.padded_d);
  RotateRows(c.p, c.t.extras, Turn::kInverse, FirstQueryRow(c.p) + block.first, block.count, rows,
             c.padded_d);
  UnpackBlock<In>(c.p, block, rows, c.padded_d, static_cast<T>(c.p.softmax_scale), c.t.grad_q);
  WriteGradSlopes<T>(c.p, c.t, block, SlopeSums(sums, c.padded_d));
}

inline QueryBlock BlockOf(const Problem& p, int64_t batch, int64_t head, int64_t index) {
  const int64_t first = index * kBlockQ;
  return {batch, head, 1, first, p.seq_q - first < kBlockQ ? p.seq_q - first : kBlockQ};
}

// The blocks of queries whose sums a chunk of keys contributes to; all of them if it is the only
// one.
inline Span BlocksOfChunk(const Problem& p, const BackwardPlan& plan, int64_t chunk) {
  if (plan.is_whole) return {0, CeilDiv(p.seq_q, kBlockQ)};
  const int64_t begin = chunk * plan.keys_per_chunk, end = begin + plan.keys_per_chunk;
  const Span queries = QueriesInWindow(p, {begin, end < p.seq_k ? end : p.seq_k});
  return {queries.begin / kBlockQ, CeilDiv(queries.end, kBlockQ)};
}

// The tiles of one panel of keys with a block of queries.
template <typename In, typename T>
void BackwardPanelBlock(const BackwardContext<T>& c, const KeyBlock<T>& panel,
                        const QueryBlock& block, T* sums) {
  const Span seen = VisibleKeys(c.p, c.plan.segments, c.batch, Queries(block));
  const int64_t panel_end = panel.first + panel.count;
  const int64_t end = seen.end < panel_end ? seen.end : panel_end;
  int64_t j = seen.begin > panel.first ? seen.begin : panel.first;
  if (j >= end) return;
  BackwardBlock<T> b = PackQueries<In>(c, block);
  b.grad_q = sums;
  if (c.t.grad_slopes != nullptr) b.slopes = SlopeSums(sums, c.padded_d);
  while (j < end) {
    const int64_t limit = (j / kBlockK + 1) * kBlockK, next = limit < end ? limit : end;
    BackwardKeys(c, b, Part(panel, j - panel.first, next - j, c.padded_d));
    j = next;
  }
}

// One panel of keys with all queries of all heads that share it.
template <typename In, typename T>
void BackwardPanel(const BackwardContext<T>& c, const KeyBlock<T>& panel, T* whole_sums, T* rows) {
  const int64_t group = c.p.num_heads / c.p.num_kv_heads;
  const Span blocks = BlocksOfChunk(c.p, c.plan, c.chunk);
  for (int64_t head = c.kv_head * group; head < (c.kv_head + 1) * group; ++head) {
    for (int64_t index = blocks.begin; index < blocks.end; ++index) {
      const QueryBlock block = BlockOf(c.p, c.batch, head, index);
      if (!c.plan.is_whole) {
        BackwardPanelBlock<In>(c, panel, block, PartialSums(c, c.chunk, block));
        continue;
      }
      std::memset(whole_sums, 0, QuerySums(c.padded_d) * sizeof(T));
      BackwardPanelBlock<In>(c, panel, block, whole_sums);
      UnpackQuerySums<In>(c, block, whole_sums, rows);
    }
  }
}

template <typename T>
void ClearPartialSums(const BackwardContext<T>& c) {
  const int64_t group = c.p.num_heads / c.p.num_kv_heads;
  const Span blocks = BlocksOfChunk(c.p, c.plan, c.chunk);
  for (int64_t head = c.kv_head * group; head < (c.kv_head + 1) * group; ++head) {
    for (int64_t index = blocks.begin; index < blocks.end; ++index) {
      std::memset(PartialSums(c, c.chunk, BlockOf(c.p, c.batch, head, index)), 0,
                  QuerySums(c.padded_d) * sizeof(T));
    }
  }
}

template <typename In, typename T>
void BackwardChunkTask(const Problem& p, const BackwardTensors& t, const BackwardPlan& plan,
                       int64_t task, void* scratch) {
  const int64_t d = p.head_dim, padded_d = RoundUp(d, kPadding), stride = p.num_kv_heads * d;
  const int64_t chunk = task % plan.num_chunks;
  const int64_t kv_head = task / plan.num_chunks % p.num_kv_heads;
  const int64_t batch = task / plan.num_chunks / p.num_kv_heads;
  const int64_t begin = chunk * plan.keys_per_chunk;
  const int64_t end = begin + plan.keys_per_chunk < p.seq_k ? begin + plan.keys_per_chunk : p.seq_k;
  const int64_t panel_size = plan.keys_per_chunk < kPanelK ? plan.keys_per_chunk : kPanelK;

  T* scores = static_cast<T*>(scratch);
  T* grad_scores = scores + kBlockK * kBlockQ;
  T* k_rows = grad_scores + kBlockK * kBlockQ;
  T* v_rows = k_rows + panel_size * padded_d;
  T* grad_k = v_rows + panel_size * padded_d;
  T* grad_v = grad_k + panel_size * padded_d;
  T* rows = grad_v + panel_size * padded_d;
  T* whole_sums = rows + kBlockQ * padded_d;
  const BackwardContext<T> c{
      p,        t,      plan,        MakeScoreOptions<T>(p, t.extras, batch), batch, kv_head, chunk,
      padded_d, scores, grad_scores, whole_sums + QuerySums(padded_d)};
  if (!plan.is_whole) ClearPartialSums(c);
  for (int64_t j0 = begin; j0 < end; j0 += panel_size) {
    const int64_t count = end - j0 < panel_size ? end - j0 : panel_size;
    PackKeys<In>(p, &t.extras, batch, kv_head, j0, count, t.k, k_rows, padded_d);
    PackKeys<In>(p, nullptr, batch, kv_head, j0, count, t.v, v_rows, padded_d);
    std::memset(grad_k, 0, count * padded_d * sizeof(T));
    std::memset(grad_v, 0, count * padded_d * sizeof(T));
    BackwardPanel<In>(c, KeyBlock<T>{j0, count, k_rows, v_rows, grad_k, grad_v}, whole_sums, rows);
    const int64_t offset = KeyOffset(p, batch, kv_head, j0);
    RotateRows(p, t.extras, Turn::kInverse, FirstKeyRow(p) + j0, count, grad_k, padded_d);
    UnpackRows(grad_k, padded_d, count, d, static_cast<T>(p.softmax_scale),
               static_cast<In*>(t.grad_k) + offset, stride);
    UnpackRows(grad_v, padded_d, count, d, T{1}, static_cast<In*>(t.grad_v) + offset, stride);
  }
}

template <typename In, typename T>
void BackwardSumTask(const Problem& p, const BackwardTensors& t, const BackwardPlan& plan,
                     int64_t task, void* scratch) {
  const int64_t padded_d = RoundUp(p.head_dim, kPadding), num_blocks = CeilDiv(p.seq_q, kBlockQ);
  const int64_t head = task / num_blocks % p.num_heads, batch = task / num_blocks / p.num_heads;
  const QueryBlock block = BlockOf(p, batch, head, task % num_blocks);
  const BackwardContext<T> c{p, t, plan, {}, batch, 0, 0, padded_d, nullptr, nullptr, nullptr};
  T* sums = static_cast<T*>(scratch);
  std::memset(sums, 0, QuerySums(padded_d) * sizeof(T));
  for (int64_t chunk = 0; chunk < plan.num_chunks; ++chunk) {
    const Span blocks = BlocksOfChunk(p, plan, chunk);
    if (task % num_blocks < blocks.begin || task % num_blocks >= blocks.end) continue;
    T* partial = PartialSums(c, chunk, block);
    for (int64_t i = 0; i < padded_d * kBlockQ; ++i) sums[i] += partial[i];
    AddSlopeSums(SlopeSums(partial, padded_d), SlopeSums(sums, padded_d));
  }
  UnpackQuerySums<In>(c, block, sums, sums + QuerySums(padded_d));
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_BACKWARD_INL_H_
