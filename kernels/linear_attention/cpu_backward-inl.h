// The tasks of the backward pass. Compiled once per instruction set (simd-inl.h).
//
// With w = decay^(i - j), G = factor grad_out, e = -rowsum(grad_out * out) factor (0 unless
// normalized), A = w phi(q) phi(k)^T and dA = w (G v^T + e), H the state before a chunk and D the
// gradient of the state after it, a chunk of n tokens has
//   grad_v      = A^T G           + decay^(n - 1 - j) phi(k) D
//   grad_phi(k) = dA^T phi(q)     + decay^(n - 1 - j) (v D^T + D_sum)
//   grad_phi(q) = dA phi(k)       + decay^(i + 1) (G H^T + e H_sum)
// and hands D' = decay^n D + sum over i of decay^(i + 1) phi(q_i) G_i^T to the chunk before it.
#ifndef KERNELS_LINEAR_ATTENTION_CPU_BACKWARD_INL_H_
#define KERNELS_LINEAR_ATTENTION_CPU_BACKWARD_INL_H_

#include "kernels/linear_attention/cpu_forward-inl.h"

namespace kernels::linear_attention {
namespace KERNELS_ISA {

// A task's memory; sizes as in BackwardScratch.
template <typename T>
struct BackwardTiles {
  BackwardTiles(const Problem& p, void* scratch) {
    const int64_t of_keys = kChunk * RoundUp(p.key_dim, kPadding);
    const int64_t of_values = kChunk * RoundUp(p.value_dim, kPadding);
    T* next = static_cast<T*>(scratch);
    for (T** tile : {&q_rows, &q_columns, &k_rows, &grad_k, &grad_rows, &scaled_k}) {
      *tile = next;
      next += of_keys;
    }
    for (T** tile : {&g_rows, &g_columns, &v_rows, &grad_v, &scaled_v}) {
      *tile = next;
      next += of_values;
    }
    weights = next;
    grad_weights = weights + kChunk * kChunk;
    grad_sums = grad_weights + kChunk * kChunk;
    powers = grad_sums + kChunk;
    transposed = powers + kPowersSize;
  }

  T *q_rows, *q_columns, *k_rows, *grad_k, *grad_rows, *scaled_k;
  T *g_rows, *g_columns, *v_rows, *grad_v, *scaled_v;
  T *weights, *grad_weights;  // [key, query].
  T* grad_sums;               // e.
  T* powers;
  T* transposed;  // A state without its sums, [value_dim padded, key_dim padded].
};

// G and e of one chunk.
template <typename In, typename T>
void LoadGradients(const Problem& p, const BackwardTensors& t, const Chunk& chunk,
                   const BackwardTiles<T>& tiles) {
  const int64_t padded_v = RoundUp(p.value_dim, kPadding), stride = p.num_heads * p.value_dim;
  const int64_t offset = Offset(p, chunk, chunk.head, p.num_heads, p.value_dim);
  const T* factors = static_cast<const T*>(t.factor) + chunk.row * p.seq_len + chunk.first;
  PackRows(static_cast<const In*>(t.grad_out) + offset, stride, chunk.count, p.value_dim,
           tiles.g_rows, padded_v, kChunk);
  ScaleRows(tiles.g_rows, padded_v, chunk.count, factors, 1, tiles.g_rows);
  std::memset(tiles.grad_sums, 0, kChunk * sizeof(T));
  if (!p.normalize) return;
  T* out_row = tiles.scaled_v;
  for (int64_t i = 0; i < chunk.count; ++i) {
    PackRows(static_cast<const In*>(t.out) + offset + i * stride, stride, 1, p.value_dim, out_row,
             padded_v, 1);
    tiles.grad_sums[i] = -Dot(tiles.g_rows + i * padded_v, out_row, padded_v);
  }
}

template <typename In, typename T>
void GradUpdateTask(const Problem& p, const BackwardTensors& t, const Slots& slots, int64_t task,
                    void* scratch) {
  const BackwardTiles<T> tiles(p, scratch);
  const int64_t row = task / NumChunks(p), index = task % NumChunks(p);
  const int64_t padded_k = RoundUp(p.key_dim, kPadding);
  const Chunk chunk = LocateChunk(p, row, index);
  const T* powers = FillPowers(p, t.decay, row, tiles.powers);
  if (index + 1 == NumChunks(p)) {
    LoadState(p, t.grad_final_kv, t.grad_final_k_sum, row,
              Slot<T>(p, slots.gradients, row, NumChunks(p)));
  }
  LoadQueries<In>(p, t.q, chunk, tiles.q_rows);
  ScaleRows(tiles.q_rows, padded_k, chunk.count, powers + 1, 1, tiles.q_rows);
  LoadGradients<In>(p, t, chunk, tiles);
  SumOuterProducts<T>(p, chunk.count, tiles.q_rows, tiles.g_rows, tiles.grad_sums,
                      Slot<T>(p, slots.gradients, row, index));
}

template <typename T>
void GradScanTask(const Problem& p, const void* decay, const Slots& slots, int64_t task) {
  alignas(kVectorBytes) T memory[kPowersSize];
  const int64_t row = task / kScanParts;
  const T* powers = FillPowers(p, decay, row, memory);
  int64_t begin, end;
  ScanRange(p, task % kScanParts, &begin, &end);
  for (int64_t c = NumChunks(p) - 1; c >= 0; --c) {
    T* previous = Slot<T>(p, slots.gradients, row, c);
    Advance(powers[LocateChunk(p, row, c).count], Slot<T>(p, slots.gradients, row, c + 1), previous,
            begin, end, previous);
  }
}

// Sum over the weights of distance * weight * gradient, before the gradient takes its own power.
template <typename T>
double DistanceGradient(int64_t count, const T* weights, const T* grad_weights) {
  double total = 0;
  for (int64_t j = 0; j < count; ++j) {
    T sum = 0;
    for (int64_t i = j + 1; i < count; ++i) {
      sum += static_cast<T>(i - j) * weights[j * kChunk + i] * grad_weights[j * kChunk + i];
    }
    total += sum;
  }
  return total;
}

// Weights of a chunk and their gradients; returns their part of the decay's gradient.
template <typename T>
double WeighChunk(const Problem& p, int64_t count, const T* powers, bool wants_decay,
                  const BackwardTiles<T>& tiles) {
  const int64_t padded_k = RoundUp(p.key_dim, kPadding), padded_v = RoundUp(p.value_dim, kPadding);
  const int64_t lanes = RoundUp(count, kLanes<T>);
  TransposeTile(tiles.q_rows, padded_k, lanes, padded_k, T{1}, tiles.q_columns, kChunk);
  TransposeTile(tiles.g_rows, padded_v, lanes, padded_v, T{1}, tiles.g_columns, kChunk);
  Weigh(count, tiles.k_rows, padded_k, p.key_dim, tiles.q_columns, tiles.weights);
  Weigh(count, tiles.v_rows, padded_v, p.value_dim, tiles.g_columns, tiles.grad_weights);
  for (int64_t j = 0; p.normalize && j < count; ++j) {
    for (int64_t i = j / kLanes<T> * kLanes<T>; i < lanes; i += kLanes<T>) {
      T* gradient = tiles.grad_weights + j * kChunk + i;
      Store(Load(gradient) + Load(tiles.grad_sums + i), gradient);
    }
  }
  DecayWeights(count, powers, tiles.weights);
  const double decay =
      wants_decay ? DistanceGradient(count, tiles.weights, tiles.grad_weights) : 0.0;
  DecayWeights(count, powers, tiles.grad_weights);
  return decay;
}

// Adds one query head's part to grad_k and grad_v of a chunk; `state` is D.
template <typename T>
double AddGradKeysAndValues(const Problem& p, int64_t count, const T* powers, const T* state,
                            bool wants_decay, const BackwardTiles<T>& tiles) {
  const int64_t padded_k = RoundUp(p.key_dim, kPadding), padded_v = RoundUp(p.value_dim, kPadding);
  const T* sums = state + padded_k * padded_v;
  const T* last = powers + count - 1;
  if (p.causal) AddFuture(count, tiles.weights, tiles.g_rows, padded_v, tiles.grad_v);
  ScaleRows(tiles.k_rows, padded_k, count, last, -1, tiles.scaled_k);
  Multiply<Previous::kAdd, T>({tiles.scaled_k, padded_k, 1}, count, p.key_dim, state, padded_v,
                              padded_v / kLanes<T>, tiles.grad_v, padded_v);

  TransposeTile(state, padded_v, padded_k, padded_v, T{1}, tiles.transposed, padded_k);
  ScaleRows(tiles.v_rows, padded_v, count, last, -1, tiles.scaled_v);
  Multiply<Previous::kOverwrite, T>({tiles.scaled_v, padded_v, 1}, count, p.value_dim,
                                    tiles.transposed, padded_k, padded_k / kLanes<T>,
                                    tiles.grad_rows, padded_k);
  double decay = 0;
  for (int64_t j = 0; j < count; ++j) {
    T* grad = tiles.grad_rows + j * padded_k;
    AddRow(last[-j], sums, padded_k, grad);
    if (wants_decay) decay += (count - 1 - j) * Dot(grad, tiles.k_rows + j * padded_k, padded_k);
  }
  if (p.causal) AddFuture(count, tiles.grad_weights, tiles.q_rows, padded_k, tiles.grad_rows);
  for (int64_t j = 0; j < count; ++j) {
    AddRow(T{1}, tiles.grad_rows + j * padded_k, padded_k, tiles.grad_k + j * padded_k);
  }
  return decay;
}

// Writes grad_q of a chunk; `state` is H.
template <typename In, typename T>
double WriteGradQueries(const Problem& p, const BackwardTensors& t, const Chunk& chunk,
                        const T* powers, const T* state, bool wants_decay,
                        const BackwardTiles<T>& tiles) {
  const int64_t padded_k = RoundUp(p.key_dim, kPadding), padded_v = RoundUp(p.value_dim, kPadding);
  const int64_t count = chunk.count;
  const T* sums = state + padded_k * padded_v;
  TransposeTile(state, padded_v, padded_k, padded_v, T{1}, tiles.transposed, padded_k);
  ScaleRows(tiles.g_rows, padded_v, count, powers + 1, 1, tiles.scaled_v);
  Multiply<Previous::kOverwrite, T>({tiles.scaled_v, padded_v, 1}, count, p.value_dim,
                                    tiles.transposed, padded_k, padded_k / kLanes<T>,
                                    tiles.grad_rows, padded_k);
  double decay = 0;
  for (int64_t i = 0; i < count; ++i) {
    T* grad = tiles.grad_rows + i * padded_k;
    AddRow(powers[i + 1] * tiles.grad_sums[i], sums, padded_k, grad);
    if (wants_decay) decay += (i + 1) * Dot(grad, tiles.q_rows + i * padded_k, padded_k);
  }
  if (p.causal) AddPast(count, tiles.grad_weights, tiles.k_rows, padded_k, tiles.grad_rows);
  MultiplySlopes(p.feature_map, tiles.q_rows, count * padded_k, tiles.grad_rows);
  UnpackRows(tiles.grad_rows, padded_k, count, p.key_dim, T{1},
             static_cast<In*>(t.grad_q) + Offset(p, chunk, chunk.head, p.num_heads, p.key_dim),
             p.num_heads * p.key_dim);
  return decay;
}

template <typename In, typename T>
void BackwardChunkTask(const Problem& p, const BackwardTensors& t, const Slots& slots, int64_t task,
                       void* scratch) {
  const BackwardTiles<T> tiles(p, scratch);
  const int64_t padded_k = RoundUp(p.key_dim, kPadding), padded_v = RoundUp(p.value_dim, kPadding);
  const int64_t chunks = NumChunks(p), group = p.num_heads / p.num_kv_heads;
  const int64_t index = task % chunks, first_row = task / chunks * group;
  const bool wants_decay = t.grad_decay != nullptr;
  const Chunk first = LocateChunk(p, first_row, index);
  LoadKeysAndValues<In>(p, t.k, t.v, first, tiles.k_rows, tiles.v_rows);
  std::memset(tiles.grad_k, 0, first.count * padded_k * sizeof(T));
  std::memset(tiles.grad_v, 0, first.count * padded_v * sizeof(T));
  for (int64_t row = first_row; row < first_row + group; ++row) {
    const Chunk chunk = LocateChunk(p, row, index);
    const T* powers = FillPowers(p, t.decay, row, tiles.powers);
    const T* state = Slot<T>(p, slots.states, row, p.causal ? index : chunks);
    const T* grad_state = Slot<T>(p, slots.gradients, row, p.causal ? index + 1 : 0);
    LoadQueries<In>(p, t.q, chunk, tiles.q_rows);
    LoadGradients<In>(p, t, chunk, tiles);
    double decay = 0;
    if (p.causal) decay += WeighChunk(p, chunk.count, powers, wants_decay, tiles);
    decay += AddGradKeysAndValues(p, chunk.count, powers, grad_state, wants_decay, tiles);
    decay += WriteGradQueries<In>(p, t, chunk, powers, state, wants_decay, tiles);
    if (wants_decay) {
      const T lost = powers[chunk.count] * Dot(state, grad_state, StateSize(p));
      slots.decay[row * chunks + index] = decay + static_cast<double>(chunk.count) * lost;
    }
  }
  MultiplySlopes(p.feature_map, tiles.k_rows, first.count * padded_k, tiles.grad_k);
  UnpackRows(
      tiles.grad_k, padded_k, first.count, p.key_dim, T{1},
      static_cast<In*>(t.grad_k) + Offset(p, first, first.kv_head, p.num_kv_heads, p.key_dim),
      p.num_kv_heads * p.key_dim);
  UnpackRows(
      tiles.grad_v, padded_v, first.count, p.value_dim, T{1},
      static_cast<In*>(t.grad_v) + Offset(p, first, first.kv_head, p.num_kv_heads, p.value_dim),
      p.num_kv_heads * p.value_dim);
}

template <typename T>
void FinishBackwardTask(const Problem& p, const BackwardTensors& t, const Slots& slots,
                        int64_t task) {
  StoreState(p, Slot<T>(p, slots.gradients, task, 0), task, t.grad_initial_kv,
             t.grad_initial_k_sum);
  if (t.grad_decay == nullptr) return;
  double total = 0;
  for (int64_t c = 0; c < NumChunks(p); ++c) total += slots.decay[task * NumChunks(p) + c];
  const double decay = static_cast<double>(static_cast<const T*>(t.decay)[task]);
  static_cast<T*>(t.grad_decay)[task] = static_cast<T>(total / decay);
}

}  // namespace KERNELS_ISA
}  // namespace kernels::linear_attention

#endif  // KERNELS_LINEAR_ATTENTION_CPU_BACKWARD_INL_H_
