// One task of the forward pass. Compiled once per instruction set (simd-inl.h).
//
// Scores are held transposed, [key, query], with the queries along the vector lanes. So the running
// maximum and sum of a query are lanes of plain vectors, nothing is ever reduced across lanes, k
// and v are read as scalars in their own layout, and no size but the number of queries needs
// padding.
#ifndef KERNELS_ATTENTION_CPU_FORWARD_INL_H_
#define KERNELS_ATTENTION_CPU_FORWARD_INL_H_

#include "kernels/attention/cpu_tasks.h"
#include "kernels/native/tiles-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

using namespace kernels::KERNELS_ISA;

constexpr double kLog2E = 1.4426950408889634;
constexpr double kLn2 = 0.6931471805599453;
constexpr double kInfinity = __builtin_inf();

// The leading queries of a block that do not see `key`: a prefix, since causality is monotone.
inline int64_t BlindQueries(const Problem& p, int64_t key, int64_t first_query, int64_t lanes) {
  const int64_t blind = key - (p.seq_k - p.seq_q) - first_query;
  return blind < 0 ? 0 : (blind > lanes ? lanes : blind);
}

// The keys that at least one query before `end_query` sees.
inline int64_t VisibleKeys(const Problem& p, int64_t end_query) {
  if (!p.causal) return p.seq_k;
  const int64_t visible = end_query + p.seq_k - p.seq_q;
  return visible < 0 ? 0 : (visible > p.seq_k ? p.seq_k : visible);
}

// Overwrites the scores [key, query] that causality hides.
template <typename T>
void Mask(const Problem& p, int64_t first_key, int64_t num_keys, int64_t first_query, int64_t lanes,
          T value, T* scores) {
  if (!p.causal) return;
  for (int64_t j = 0; j < num_keys; ++j) {
    const int64_t blind = BlindQueries(p, first_key + j, first_query, lanes);
    for (int64_t lane = 0; lane < blind; ++lane) scores[j * kBlockQ + lane] = value;
  }
}

// Running state of the online softmax, a lane per query.
template <typename T>
struct Softmax {
  T* max;      // Of the scores so far, in units of log2.
  T* sum;      // Of exp2(score - max).
  T* rescale;  // What the last update multiplies earlier sums by.
};

// Turns a block of scores into unnormalised probabilities and updates the state.
template <typename T>
void UpdateSoftmax(T* scores, int64_t num_keys, int64_t lanes, Softmax<T> state) {
  const Vec<T> none = Broadcast(static_cast<T>(-kInfinity));
  for (int64_t lane = 0; lane < lanes; lane += kLanes<T>) {
    T* column = scores + lane;
    const Vec<T> old_max = Load(state.max + lane);
    Vec<T> max = old_max;
    for (int64_t j = 0; j < num_keys; ++j) max = Max(max, Load(column + j * kBlockQ));
    // A query that has seen no key yet has max -inf; -inf - 0 keeps its probabilities at zero.
    const Vec<T> shift = max == none ? Vec<T>{} : max;
    Vec<T> sum{};
    for (int64_t j = 0; j < num_keys; ++j) {
      const Vec<T> probability = Exp2(Load(column + j * kBlockQ) - shift);
      Store(probability, column + j * kBlockQ);
      sum += probability;
    }
    const Vec<T> rescale = Exp2(old_max - shift);
    Store(max, state.max + lane);
    Store(rescale, state.rescale + lane);
    Store(MultiplyAdd(Load(state.sum + lane), rescale, sum), state.sum + lane);
  }
}

// Writes lse and returns, in `rescale`, the factors that normalise the output.
template <typename T>
void FinishSoftmax(int64_t num_queries, int64_t lanes, Softmax<T> state, T* lse) {
  for (int64_t i = 0; i < lanes; ++i) {
    state.rescale[i] = state.sum[i] == 0 ? T{0} : T{1} / state.sum[i];
  }
  for (int64_t i = 0; i < num_queries; ++i) {
    lse[i] = static_cast<T>(kLn2) * (state.max[i] + std::log2(state.sum[i]));
  }
}

// A block of queries of one head and its results so far.
template <typename T>
struct ForwardBlock {
  int64_t first, count, lanes, end_key;  // It sees no key from end_key on.
  T* q_columns;                          // [padded_d, kBlockQ], scaled.
  T* out_columns;                        // [padded_d, kBlockQ], not yet normalised.
  Softmax<T> softmax;
};

// Sets a block up in `memory`; `rows` is scratch.
template <typename In, typename T>
ForwardBlock<T> BeginBlock(const Problem& p, const In* q, int64_t first, T* rows, T* memory) {
  const int64_t padded_d = RoundUp(p.head_dim, kPadding), tile = kBlockQ * padded_d;
  const int64_t count = p.seq_q - first < kBlockQ ? p.seq_q - first : kBlockQ;
  T* lanes = memory + 2 * tile;
  const ForwardBlock<T> block{first,
                              count,
                              RoundUp(count, kLanes<T>),
                              VisibleKeys(p, first + count),
                              memory,
                              memory + tile,
                              {lanes, lanes + kBlockQ, lanes + 2 * kBlockQ}};
  const int64_t stride = p.num_heads * p.head_dim;
  PackRows(q + first * stride, stride, count, p.head_dim, rows, padded_d, block.lanes);
  TransposeTile(rows, padded_d, block.lanes, padded_d, static_cast<T>(p.softmax_scale * kLog2E),
                block.q_columns, kBlockQ);
  std::memset(block.out_columns, 0, tile * sizeof(T));
  for (int64_t i = 0; i < block.lanes; ++i) {
    block.softmax.max[i] = static_cast<T>(-kInfinity);
    block.softmax.sum[i] = 0;
  }
  return block;
}

// Takes the keys [first_key, first_key + num_keys) into a block's results.
template <typename T>
void FoldKeys(const Problem& p, Rows<T> k, Rows<T> v, int64_t first_key, int64_t num_keys,
              const ForwardBlock<T>& block, T* scores) {
  const int64_t d = p.head_dim, vectors = block.lanes / kLanes<T>;
  Multiply<Previous::kOverwrite, T>({k.data, k.stride, 1}, num_keys, d, block.q_columns, kBlockQ,
                                    vectors, scores, kBlockQ);
  Mask(p, first_key, num_keys, block.first, block.lanes, static_cast<T>(-kInfinity), scores);
  UpdateSoftmax(scores, num_keys, block.lanes, block.softmax);
  Multiply<Previous::kScaleAndAdd, T>({v.data, 1, v.stride}, d, num_keys, scores, kBlockQ, vectors,
                                      block.out_columns, kBlockQ, block.softmax.rescale);
}

// Writes a block's out and lse; `rows` is scratch.
template <typename In, typename T>
void EndBlock(const Problem& p, const ForwardBlock<T>& block, T* rows, In* out, T* lse) {
  const int64_t d = p.head_dim, padded_d = RoundUp(d, kPadding), stride = p.num_heads * d;
  FinishSoftmax(block.count, block.lanes, block.softmax, lse + block.first);
  for (int64_t c = 0; c < d; ++c) {
    for (int64_t i = 0; i < block.lanes; ++i) {
      block.out_columns[c * kBlockQ + i] *= block.softmax.rescale[i];
    }
  }
  TransposeTile(block.out_columns, kBlockQ, padded_d, block.lanes, T{1}, rows, padded_d);
  UnpackRows(rows, padded_d, block.count, d, T{1}, out + block.first * stride, stride);
}

template <typename In, typename T>
void ForwardTask(const Problem& p, const ForwardTensors& t, int64_t blocks_per_task, int64_t task,
                 void* scratch) {
  const int64_t d = p.head_dim, padded_d = RoundUp(d, kPadding), tile = kBlockQ * padded_d;
  const int64_t queries_per_task = blocks_per_task * kBlockQ;
  const int64_t num_parts = CeilDiv(p.seq_q, queries_per_task);
  // Under a causal mask the last queries have the most keys: starting with them evens out the
  // threads.
  const int64_t begin = (num_parts - 1 - task % num_parts) * queries_per_task;
  const int64_t end = begin + queries_per_task < p.seq_q ? begin + queries_per_task : p.seq_q;
  const int64_t head = task / num_parts % p.num_heads, batch = task / num_parts / p.num_heads;
  const int64_t kv_head = head / (p.num_heads / p.num_kv_heads), kv_stride = p.num_kv_heads * d;
  const int64_t q_offset = (batch * p.seq_q * p.num_heads + head) * d;
  const int64_t kv_offset = (batch * p.seq_k * p.num_kv_heads + kv_head) * d;

  T* rows = static_cast<T*>(scratch);  // [kBlockQ, padded_d]
  T* k_rows = rows + tile;             // [kBlockK, padded_d]
  T* v_rows = k_rows + kBlockK * padded_d;
  T* scores = v_rows + kBlockK * padded_d;  // [kBlockK, kBlockQ]
  T* memory = scores + kBlockK * kBlockQ;
  ForwardBlock<T> blocks[kMaxBlocksPerTask] = {};
  int64_t num_blocks = 0;
  for (int64_t i = begin; i < end; i += kBlockQ, memory += 2 * tile + 3 * kBlockQ) {
    blocks[num_blocks++] = BeginBlock(p, static_cast<const In*>(t.q) + q_offset, i, rows, memory);
  }

  const int64_t end_key = blocks[num_blocks - 1].end_key;
  for (int64_t j = 0; j < end_key; j += kBlockK) {
    const int64_t num_keys = end_key - j < kBlockK ? end_key - j : kBlockK;
    const int64_t offset = kv_offset + j * kv_stride;
    const Rows<T> k = ReadRows(static_cast<const In*>(t.k) + offset, kv_stride, num_keys, d,
                               num_blocks > 1, k_rows, padded_d);
    const Rows<T> v = ReadRows(static_cast<const In*>(t.v) + offset, kv_stride, num_keys, d,
                               num_blocks > 1, v_rows, padded_d);
    for (int64_t b = 0; b < num_blocks; ++b) {
      const int64_t visible = blocks[b].end_key - j;
      if (visible <= 0) continue;
      FoldKeys(p, k, v, j, visible < num_keys ? visible : num_keys, blocks[b], scores);
    }
  }

  T* lse = static_cast<T*>(t.lse) + (batch * p.num_heads + head) * p.seq_q;
  for (int64_t b = 0; b < num_blocks; ++b) {
    EndBlock(p, blocks[b], rows, static_cast<In*>(t.out) + q_offset, lse);
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_FORWARD_INL_H_
