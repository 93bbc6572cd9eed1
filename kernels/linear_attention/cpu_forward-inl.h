// The tasks of the forward pass. Compiled once per instruction set (simd-inl.h).
#ifndef KERNELS_LINEAR_ATTENTION_CPU_FORWARD_INL_H_
#define KERNELS_LINEAR_ATTENTION_CPU_FORWARD_INL_H_

#include "kernels/linear_attention/cpu_chunk-inl.h"

namespace kernels::linear_attention {
namespace KERNELS_ISA {

// A task's memory; sizes as in ForwardScratch.
template <typename T>
struct ForwardTiles {
  ForwardTiles(const Problem& p, void* scratch)
      : q_rows(static_cast<T*>(scratch)),
        q_columns(q_rows + kChunk * RoundUp(p.key_dim, kPadding)),
        k_rows(q_columns + kChunk * RoundUp(p.key_dim, kPadding)),
        v_rows(k_rows + kChunk * RoundUp(p.key_dim, kPadding)),
        out_rows(v_rows + kChunk * RoundUp(p.value_dim, kPadding)),
        weights(out_rows + kChunk * RoundUp(p.value_dim, kPadding)),
        sums(weights + kChunk * kChunk),
        powers(sums + kChunk),
        state(powers + kPowersSize),
        update(state + StateSize(p)) {}

  T *q_rows, *q_columns, *k_rows, *v_rows, *out_rows;
  T* weights;  // [key, query].
  T* sums;     // Of the weights of each query.
  T* powers;
  T *state, *update;
};

// Adds the weights of the tokens of the chunk to `sums`.
template <typename T>
void SumWeights(int64_t count, const T* weights, T* sums) {
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t i = j / kLanes<T> * kLanes<T>; i < count; i += kLanes<T>) {
      Store(Load(sums + i) + Load(weights + j * kChunk + i), sums + i);
    }
  }
}

// Out and factor of one chunk, from the state before it. If causal, k_rows and v_rows are loaded.
template <typename In, typename T>
void ForwardChunk(const Problem& p, const ForwardTensors& t, const Chunk& chunk, const T* powers,
                  const T* state, const ForwardTiles<T>& tiles) {
  const int64_t padded_k = RoundUp(p.key_dim, kPadding), padded_v = RoundUp(p.value_dim, kPadding);
  const int64_t count = chunk.count;
  LoadQueries<In>(p, t.q, chunk, tiles.q_rows);
  std::memset(tiles.sums, 0, kChunk * sizeof(T));
  if (p.causal) {
    TransposeTile(tiles.q_rows, padded_k, RoundUp(count, kLanes<T>), padded_k, T{1},
                  tiles.q_columns, kChunk);
    Weigh(count, tiles.k_rows, padded_k, p.key_dim, tiles.q_columns, tiles.weights);
    DecayWeights(count, powers, tiles.weights);
    SumWeights(count, tiles.weights, tiles.sums);
    ScaleRows(tiles.q_rows, padded_k, count, powers + 1, 1, tiles.q_rows);
  }
  Multiply<Previous::kOverwrite, T>({tiles.q_rows, padded_k, 1}, count, p.key_dim, state, padded_v,
                                    padded_v / kLanes<T>, tiles.out_rows, padded_v);
  if (p.causal) AddPast(count, tiles.weights, tiles.v_rows, padded_v, tiles.out_rows);

  const T* k_sum = state + padded_k * padded_v;
  T* factors = static_cast<T*>(t.factor) + chunk.row * p.seq_len + chunk.first;
  In* out = static_cast<In*>(t.out) + Offset(p, chunk, chunk.head, p.num_heads, p.value_dim);
  for (int64_t i = 0; i < count; ++i) {
    const T sum = tiles.sums[i] + Dot(tiles.q_rows + i * padded_k, k_sum, padded_k);
    factors[i] = p.normalize ? T{1} / (sum + static_cast<T>(p.eps)) : static_cast<T>(p.scale);
    NarrowRow(tiles.out_rows + i * padded_v, p.value_dim, factors[i],
              out + i * p.num_heads * p.value_dim);
  }
}

template <typename In, typename T>
void ForwardHeadTask(const Problem& p, const ForwardTensors& t, int64_t task, void* scratch) {
  const ForwardTiles<T> tiles(p, scratch);
  const T* powers = FillPowers(p, t.decay, task, tiles.powers);
  LoadState(p, t.initial_kv, t.initial_k_sum, task, tiles.state);
  const auto advance = [&](const Chunk& chunk) {
    UpdateOfChunk(p, chunk, powers, tiles.k_rows, tiles.v_rows, tiles.update);
    Advance(powers[chunk.count], tiles.state, tiles.update, 0, StateSize(p), tiles.state);
  };
  for (int64_t c = 0; c < NumChunks(p); ++c) {
    const Chunk chunk = LocateChunk(p, task, c);
    LoadKeysAndValues<In>(p, t.k, t.v, chunk, tiles.k_rows, tiles.v_rows);
    if (p.causal) ForwardChunk<In>(p, t, chunk, powers, tiles.state, tiles);
    const bool is_read = !p.causal || c + 1 < NumChunks(p) || t.final_kv != nullptr;
    if (is_read) advance(chunk);
  }
  for (int64_t c = 0; !p.causal && c < NumChunks(p); ++c) {
    ForwardChunk<In>(p, t, LocateChunk(p, task, c), powers, tiles.state, tiles);
  }
  StoreState(p, tiles.state, task, t.final_kv, t.final_k_sum);
}

template <typename In, typename T>
void UpdateTask(const Problem& p, const ForwardTensors& t, const Slots& slots, int64_t task,
                void* scratch) {
  const ForwardTiles<T> tiles(p, scratch);
  const int64_t row = task / NumChunks(p), index = task % NumChunks(p);
  const Chunk chunk = LocateChunk(p, row, index);
  const T* powers = FillPowers(p, t.decay, row, tiles.powers);
  if (index == 0) {
    LoadState(p, t.initial_kv, t.initial_k_sum, row, Slot<T>(p, slots.states, row, 0));
  }
  LoadKeysAndValues<In>(p, t.k, t.v, chunk, tiles.k_rows, tiles.v_rows);
  UpdateOfChunk(p, chunk, powers, tiles.k_rows, tiles.v_rows,
                Slot<T>(p, slots.states, row, index + 1));
}

// The elements [begin, end) of a state that a part of a scan goes through.
inline void ScanRange(const Problem& p, int64_t part, int64_t* begin, int64_t* end) {
  const int64_t size = RoundUp(CeilDiv(StateSize(p), kScanParts), kPadding);
  *begin = Min(part * size, StateSize(p));
  *end = Min(*begin + size, StateSize(p));
}

template <typename T>
void ScanTask(const Problem& p, const void* decay, const Slots& slots, int64_t task) {
  alignas(kVectorBytes) T memory[kPowersSize];
  const int64_t row = task / kScanParts;
  const T* powers = FillPowers(p, decay, row, memory);
  int64_t begin, end;
  ScanRange(p, task % kScanParts, &begin, &end);
  for (int64_t c = 0; c < NumChunks(p); ++c) {
    T* next = Slot<T>(p, slots.states, row, c + 1);
    Advance(powers[LocateChunk(p, row, c).count], Slot<T>(p, slots.states, row, c), next, begin,
            end, next);
  }
}

template <typename In, typename T>
void ForwardChunkTask(const Problem& p, const ForwardTensors& t, const Slots& slots, int64_t task,
                      void* scratch) {
  const ForwardTiles<T> tiles(p, scratch);
  const int64_t row = task / NumChunks(p), index = task % NumChunks(p);
  const Chunk chunk = LocateChunk(p, row, index);
  const T* powers = FillPowers(p, t.decay, row, tiles.powers);
  if (p.causal) LoadKeysAndValues<In>(p, t.k, t.v, chunk, tiles.k_rows, tiles.v_rows);
  const int64_t slot = p.causal ? index : NumChunks(p);
  ForwardChunk<In>(p, t, chunk, powers, Slot<T>(p, slots.states, row, slot), tiles);
}

template <typename T>
void FinishForwardTask(const Problem& p, const ForwardTensors& t, const Slots& slots,
                       int64_t task) {
  StoreState(p, Slot<T>(p, slots.states, task, NumChunks(p)), task, t.final_kv, t.final_k_sum);
}

}  // namespace KERNELS_ISA
}  // namespace kernels::linear_attention

#endif  // KERNELS_LINEAR_ATTENTION_CPU_FORWARD_INL_H_
