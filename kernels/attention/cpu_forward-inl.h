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

template <typename In, typename T>
void ForwardTask(const Problem& p, const ForwardTensors& t, int64_t task, void* scratch) {
  const int64_t d = p.head_dim, padded_d = RoundUp(d, kPadding);
  const int64_t num_blocks = CeilDiv(p.seq_q, kBlockQ);
  // Under a causal mask the last block has the most keys: starting with it evens out the threads.
  const int64_t block = num_blocks - 1 - task % num_blocks;
  const int64_t head = task / num_blocks % p.num_heads, batch = task / num_blocks / p.num_heads;
  const int64_t kv_head = head / (p.num_heads / p.num_kv_heads);
  const int64_t q_stride = p.num_heads * d, kv_stride = p.num_kv_heads * d;
  const int64_t i0 = block * kBlockQ;
  const int64_t num_queries = p.seq_q - i0 < kBlockQ ? p.seq_q - i0 : kBlockQ;
  const int64_t lanes = RoundUp(num_queries, kLanes<T>), vectors = lanes / kLanes<T>;
  const int64_t q_offset = ((batch * p.seq_q + i0) * p.num_heads + head) * d;
  const int64_t kv_offset = (batch * p.seq_k * p.num_kv_heads + kv_head) * d;

  T* rows = static_cast<T*>(scratch);        // [kBlockQ, padded_d]
  T* q_columns = rows + kBlockQ * padded_d;  // [padded_d, kBlockQ]
  T* out_columns = q_columns + kBlockQ * padded_d;
  T* k_rows = out_columns + kBlockQ * padded_d;  // [kBlockK, padded_d]
  T* v_rows = k_rows + kBlockK * padded_d;
  T* scores = v_rows + kBlockK * padded_d;  // [kBlockK, kBlockQ]
  Softmax<T> softmax{scores + kBlockK * kBlockQ, scores + (kBlockK + 1) * kBlockQ,
                     scores + (kBlockK + 2) * kBlockQ};

  PackRows(static_cast<const In*>(t.q) + q_offset, q_stride, num_queries, d, rows, padded_d, lanes);
  TransposeTile(rows, padded_d, lanes, padded_d, static_cast<T>(p.softmax_scale * kLog2E),
                q_columns, kBlockQ);
  std::memset(out_columns, 0, padded_d * kBlockQ * sizeof(T));
  for (int64_t i = 0; i < lanes; ++i) {
    softmax.max[i] = static_cast<T>(-kInfinity);
    softmax.sum[i] = 0;
  }

  const int64_t end_key = VisibleKeys(p, i0 + num_queries);
  for (int64_t j0 = 0; j0 < end_key; j0 += kBlockK) {
    const int64_t num_keys = end_key - j0 < kBlockK ? end_key - j0 : kBlockK;
    const int64_t offset = kv_offset + j0 * kv_stride;
    const Rows<T> k =
        ReadRows(static_cast<const In*>(t.k) + offset, kv_stride, num_keys, d, k_rows, padded_d);
    const Rows<T> v =
        ReadRows(static_cast<const In*>(t.v) + offset, kv_stride, num_keys, d, v_rows, padded_d);
    Multiply<Previous::kOverwrite, T>({k.data, k.stride, 1}, num_keys, d, q_columns, kBlockQ,
                                      vectors, scores, kBlockQ);
    Mask(p, j0, num_keys, i0, lanes, static_cast<T>(-kInfinity), scores);
    UpdateSoftmax(scores, num_keys, lanes, softmax);
    Multiply<Previous::kScaleAndAdd, T>({v.data, 1, v.stride}, d, num_keys, scores, kBlockQ,
                                        vectors, out_columns, kBlockQ, softmax.rescale);
  }

  T* lse = static_cast<T*>(t.lse) + (batch * p.num_heads + head) * p.seq_q + i0;
  FinishSoftmax(num_queries, lanes, softmax, lse);
  for (int64_t c = 0; c < d; ++c) {
    for (int64_t i = 0; i < lanes; ++i) out_columns[c * kBlockQ + i] *= softmax.rescale[i];
  }
  TransposeTile(out_columns, kBlockQ, padded_d, lanes, T{1}, rows, padded_d);
  UnpackRows(rows, padded_d, num_queries, d, T{1}, static_cast<In*>(t.out) + q_offset, q_stride);
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_FORWARD_INL_H_
