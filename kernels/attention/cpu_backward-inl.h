// The tasks of the backward pass. Compiled once per instruction set (simd-inl.h).
//
// With P = softmax(S) recomputed from lse, and [key, query] tiles as in the forward pass:
//   grad_v = P grad_out        dP = v grad_out^T        dS = P * (dP - delta)
//   grad_k = scale dS q        grad_q^T = scale k^T dS
#ifndef KERNELS_ATTENTION_CPU_BACKWARD_INL_H_
#define KERNELS_ATTENTION_CPU_BACKWARD_INL_H_

#include "kernels/attention/cpu_forward-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

template <typename In, typename T>
void DeltaTask(const Problem& p, const BackwardTensors& t, int64_t task) {
  constexpr int kSums = 16;
  const int64_t num_blocks = CeilDiv(p.seq_q, kBlockQ), batch = task / num_blocks;
  const int64_t i0 = task % num_blocks * kBlockQ;
  const int64_t i1 = i0 + kBlockQ < p.seq_q ? i0 + kBlockQ : p.seq_q;
  for (int64_t i = i0; i < i1; ++i) {
    for (int64_t head = 0; head < p.num_heads; ++head) {
      const int64_t offset = ((batch * p.seq_q + i) * p.num_heads + head) * p.head_dim;
      const In* out = static_cast<const In*>(t.out) + offset;
      const In* grad_out = static_cast<const In*>(t.grad_out) + offset;
      // Independent sums, so that the additions become vectors.
      T sums[kSums] = {};
      int64_t c = 0;
      for (; c + kSums <= p.head_dim; c += kSums) {
        for (int s = 0; s < kSums; ++s) sums[s] += T{Widen(out[c + s])} * Widen(grad_out[c + s]);
      }
      for (; c < p.head_dim; ++c) sums[0] += T{Widen(out[c])} * Widen(grad_out[c]);
      for (int half = kSums / 2; half > 0; half /= 2) {
        for (int s = 0; s < half; ++s) sums[s] += sums[s + half];
      }
      static_cast<T*>(t.delta)[(batch * p.num_heads + head) * p.seq_q + i] = sums[0];
    }
  }
}

// A block of queries and all that goes with it: rows [query, head_dim], columns transposed.
template <typename T>
struct QueryBlock {
  int64_t first, count, lanes;
  T *q_rows, *q_columns, *grad_rows, *grad_columns;
  T *lse, *delta;  // lse in units of log2.
  T* grad_q;       // [padded_d, kBlockQ], accumulated.
};

// A block of keys: rows [key, head_dim]; the gradients are accumulated.
template <typename T>
struct KeyBlock {
  int64_t first, count;
  const T *k, *v;
  T *grad_k, *grad_v;
};

// probabilities: scores -> P; grad: dP -> dS.
template <typename T>
void DifferentiateSoftmax(int64_t num_keys, const QueryBlock<T>& queries, T* probabilities,
                          T* grad) {
  for (int64_t lane = 0; lane < queries.lanes; lane += kLanes<T>) {
    const Vec<T> lse = Load(queries.lse + lane), delta = Load(queries.delta + lane);
    for (int64_t j = 0; j < num_keys; ++j) {
      T* p = probabilities + j * kBlockQ + lane;
      T* g = grad + j * kBlockQ + lane;
      const Vec<T> probability = Exp2(Load(p) - lse);
      Store(probability, p);
      Store(probability * (Load(g) - delta), g);
    }
  }
}

template <typename T>
void BackwardTile(const Problem& p, const QueryBlock<T>& queries, const KeyBlock<T>& keys,
                  T* scores, T* grad_scores) {
  const int64_t d = p.head_dim, padded_d = RoundUp(d, kPadding);
  const int64_t lane_vectors = queries.lanes / kLanes<T>;
  const int64_t d_vectors = CeilDiv(d, kLanes<T>);
  Multiply<Previous::kOverwrite, T>({keys.k, padded_d, 1}, keys.count, d, queries.q_columns,
                                    kBlockQ, lane_vectors, scores, kBlockQ);
  Multiply<Previous::kOverwrite, T>({keys.v, padded_d, 1}, keys.count, d, queries.grad_columns,
                                    kBlockQ, lane_vectors, grad_scores, kBlockQ);
  Mask(p, keys.first, keys.count, queries.first, queries.lanes, static_cast<T>(-kInfinity), scores);
  DifferentiateSoftmax(keys.count, queries, scores, grad_scores);
  Multiply<Previous::kAdd, T>({scores, kBlockQ, 1}, keys.count, queries.count, queries.grad_rows,
                              padded_d, d_vectors, keys.grad_v, padded_d);
  Multiply<Previous::kAdd, T>({grad_scores, kBlockQ, 1}, keys.count, queries.count, queries.q_rows,
                              padded_d, d_vectors, keys.grad_k, padded_d);
  Multiply<Previous::kAdd, T>({keys.k, 1, padded_d}, d, keys.count, grad_scores, kBlockQ,
                              lane_vectors, queries.grad_q, kBlockQ);
}

template <typename In, typename T>
void PackQueries(const Problem& p, const BackwardTensors& t, int64_t batch, int64_t head,
                 const QueryBlock<T>& block) {
  const int64_t d = p.head_dim, padded_d = RoundUp(d, kPadding), stride = p.num_heads * d;
  const int64_t offset = ((batch * p.seq_q + block.first) * p.num_heads + head) * d;
  PackRows(static_cast<const In*>(t.q) + offset, stride, block.count, d, block.q_rows, padded_d,
           block.lanes);
  PackRows(static_cast<const In*>(t.grad_out) + offset, stride, block.count, d, block.grad_rows,
           padded_d, block.lanes);
  TransposeTile(block.q_rows, padded_d, block.lanes, padded_d,
                static_cast<T>(p.softmax_scale * kLog2E), block.q_columns, kBlockQ);
  TransposeTile(block.grad_rows, padded_d, block.lanes, padded_d, T{1}, block.grad_columns,
                kBlockQ);
  const int64_t row = (batch * p.num_heads + head) * p.seq_q + block.first;
  const T* lse = static_cast<const T*>(t.lse) + row;
  const T* delta = static_cast<const T*>(t.delta) + row;
  for (int64_t i = 0; i < block.lanes; ++i) {
    // A query that sees no key has lse -inf; with 0 its masked scores still give P = exp2(-inf).
    const bool finite = i < block.count && lse[i] != static_cast<T>(-kInfinity);
    block.lse[i] = finite ? lse[i] * static_cast<T>(kLog2E) : T{0};
    block.delta[i] = i < block.count ? delta[i] : T{0};
  }
}

// Writes grad_q of one block of queries from its tile [padded_d, kBlockQ].
template <typename In, typename T>
void UnpackGradQ(const Problem& p, const BackwardTensors& t, int64_t batch, int64_t head,
                 int64_t first, int64_t count, const T* columns, T* rows) {
  const int64_t padded_d = RoundUp(p.head_dim, kPadding);
  TransposeTile(columns, kBlockQ, padded_d, kBlockQ, T{1}, rows, padded_d);
  UnpackRows(
      rows, padded_d, count, p.head_dim, static_cast<T>(p.softmax_scale),
      static_cast<In*>(t.grad_q) + ((batch * p.seq_q + first) * p.num_heads + head) * p.head_dim,
      p.num_heads * p.head_dim);
}

template <typename T>
T* PartialGradQ(const Problem& p, const BackwardPlan& plan, int64_t chunk, int64_t batch,
                int64_t head, int64_t block) {
  const int64_t tile = RoundUp(p.head_dim, kPadding) * kBlockQ;
  const int64_t index = (chunk * p.batch + batch) * p.num_heads + head;
  return static_cast<T*>(plan.partial_grad_q) + (index * CeilDiv(p.seq_q, kBlockQ) + block) * tile;
}

// The tiles of one panel of keys with all queries of all heads that share it.
template <typename In, typename T>
void BackwardPanel(const Problem& p, const BackwardTensors& t, const BackwardPlan& plan,
                   int64_t chunk, int64_t batch, int64_t kv_head, const KeyBlock<T>& panel,
                   T* scratch) {
  const int64_t padded_d = RoundUp(p.head_dim, kPadding), tile = kBlockQ * padded_d;
  const int64_t group = p.num_heads / p.num_kv_heads;
  T* whole_grad_q = scratch + 4 * tile;
  T* scores = whole_grad_q + tile;
  T* grad_scores = scores + kBlockK * kBlockQ;
  T* lse = grad_scores + kBlockK * kBlockQ;
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int64_t block = 0; block < CeilDiv(p.seq_q, kBlockQ); ++block) {
      const int64_t i0 = block * kBlockQ;
      const int64_t count = p.seq_q - i0 < kBlockQ ? p.seq_q - i0 : kBlockQ;
      const int64_t end_key = VisibleKeys(p, i0 + count);
      T* grad_q = whole_grad_q;
      if (plan.is_whole) {
        std::memset(grad_q, 0, tile * sizeof(T));
      } else {
        grad_q = PartialGradQ<T>(p, plan, chunk, batch, head, block);
      }
      const QueryBlock<T> queries{i0,
                                  count,
                                  RoundUp(count, kLanes<T>),
                                  scratch,
                                  scratch + tile,
                                  scratch + 2 * tile,
                                  scratch + 3 * tile,
                                  lse,
                                  lse + kBlockQ,
                                  grad_q};
      if (end_key > panel.first) PackQueries<In>(p, t, batch, head, queries);
      for (int64_t j = 0; j < panel.count && panel.first + j < end_key; j += kBlockK) {
        const int64_t num_keys = panel.count - j < kBlockK ? panel.count - j : kBlockK;
        const int64_t offset = j * padded_d;
        BackwardTile(p, queries,
                     KeyBlock<T>{panel.first + j, num_keys, panel.k + offset, panel.v + offset,
                                 panel.grad_k + offset, panel.grad_v + offset},
                     scores, grad_scores);
      }
      if (plan.is_whole) UnpackGradQ<In>(p, t, batch, head, i0, count, grad_q, queries.q_rows);
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
  const int64_t panel_tile = panel_size * padded_d;

  if (!plan.is_whole) {
    const int64_t group = p.num_heads / p.num_kv_heads;
    std::memset(PartialGradQ<T>(p, plan, chunk, batch, kv_head * group, 0), 0,
                group * CeilDiv(p.seq_q, kBlockQ) * padded_d * kBlockQ * sizeof(T));
  }
  T* k_rows = static_cast<T*>(scratch);
  T* v_rows = k_rows + panel_tile;
  T* grad_k = v_rows + panel_tile;
  T* grad_v = grad_k + panel_tile;
  for (int64_t j0 = begin; j0 < end; j0 += panel_size) {
    const int64_t count = end - j0 < panel_size ? end - j0 : panel_size;
    const int64_t offset = ((batch * p.seq_k + j0) * p.num_kv_heads + kv_head) * d;
    PackRows(static_cast<const In*>(t.k) + offset, stride, count, d, k_rows, padded_d, count);
    PackRows(static_cast<const In*>(t.v) + offset, stride, count, d, v_rows, padded_d, count);
    std::memset(grad_k, 0, count * padded_d * sizeof(T));
    std::memset(grad_v, 0, count * padded_d * sizeof(T));
    BackwardPanel<In>(p, t, plan, chunk, batch, kv_head,
                      KeyBlock<T>{j0, count, k_rows, v_rows, grad_k, grad_v}, grad_v + panel_tile);
    UnpackRows(grad_k, padded_d, count, d, static_cast<T>(p.softmax_scale),
               static_cast<In*>(t.grad_k) + offset, stride);
    UnpackRows(grad_v, padded_d, count, d, T{1}, static_cast<In*>(t.grad_v) + offset, stride);
  }
}

template <typename In, typename T>
void BackwardSumTask(const Problem& p, const BackwardTensors& t, const BackwardPlan& plan,
                     int64_t task, void* scratch) {
  const int64_t tile = RoundUp(p.head_dim, kPadding) * kBlockQ;
  const int64_t num_blocks = CeilDiv(p.seq_q, kBlockQ), first = task % num_blocks * kBlockQ;
  const int64_t head = task / num_blocks % p.num_heads, batch = task / num_blocks / p.num_heads;
  const int64_t count = p.seq_q - first < kBlockQ ? p.seq_q - first : kBlockQ;
  T* columns = static_cast<T*>(scratch);
  std::memset(columns, 0, tile * sizeof(T));
  for (int64_t chunk = 0; chunk < plan.num_chunks; ++chunk) {
    const T* partial = PartialGradQ<T>(p, plan, chunk, batch, head, task % num_blocks);
    for (int64_t i = 0; i < tile; ++i) columns[i] += partial[i];
  }
  UnpackGradQ<In>(p, t, batch, head, first, count, columns, columns + tile);
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_BACKWARD_INL_H_
