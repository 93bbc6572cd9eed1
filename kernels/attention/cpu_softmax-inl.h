// The online softmax over tiles of scores [key, query]. Compiled once per instruction set
// (simd-inl.h).
#ifndef KERNELS_ATTENTION_CPU_SOFTMAX_INL_H_
#define KERNELS_ATTENTION_CPU_SOFTMAX_INL_H_

#include "kernels/attention/cpu_scores-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

// How far, in units of log2, a score may exceed the shift before the shift follows: sums stay below
// 2^8 per key, and what has been summed up is rarely rescaled.
constexpr double kSlack = 8;

// Running state of the online softmax, a lane per query.
template <typename T>
struct Softmax {
  T* shift;    // At most kSlack below the largest score so far, in units of log2.
  T* sum;      // Of exp2(score - shift).
  T* rescale;  // What the last update multiplies earlier sums by.
};

template <typename T>
void ResetSoftmax(int64_t lanes, Softmax<T> state) {
  for (int64_t i = 0; i < lanes; ++i) {
    state.shift[i] = static_cast<T>(-kInfinity);
    state.sum[i] = 0;
  }
}

template <int kVectors, typename T>
inline bool UpdateVectors(T* scores, int64_t num_keys, Softmax<T> state) {
  Vec<T> max[kVectors], shift[kVectors], sum[kVectors];
  const Vec<T> none = Broadcast(static_cast<T>(-kInfinity));
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) max[v] = none;
  for (int64_t j = 0; j < num_keys; ++j) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      max[v] = Max(max[v], Load(scores + j * kBlockQ + v * kLanes<T>));
    }
  }
  bool moved = false;
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const Vec<T> old = Load(state.shift + v * kLanes<T>);
    // A query that has seen no key yet has shift -inf.
    const auto exceeds = max[v] > old + static_cast<T>(kSlack);
    const Vec<T> next = exceeds ? max[v] : old;
    moved |= Any(exceeds);
    // -inf - 0 keeps the probabilities of a query that sees nothing at zero.
    shift[v] = next == none ? Vec<T>{} : next;
    Store(next, state.shift + v * kLanes<T>);
    Store(Exp2(old - shift[v]), state.rescale + v * kLanes<T>);
    sum[v] = Vec<T>{};
  }
  for (int64_t j = 0; j < num_keys; ++j) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      T* score = scores + j * kBlockQ + v * kLanes<T>;
      const Vec<T> probability = Exp2(Load(score) - shift[v]);
      Store(probability, score);
      sum[v] += probability;
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    T* total = state.sum + v * kLanes<T>;
    Store(MultiplyAdd(Load(total), Load(state.rescale + v * kLanes<T>), sum[v]), total);
  }
  return moved;
}

template <typename T>
inline Softmax<T> From(Softmax<T> state, int64_t lane) {
  return {state.shift + lane, state.sum + lane, state.rescale + lane};
}

// Turns a tile of scores into unnormalised probabilities and updates the state. Returns whether
// earlier sums of these lanes must be multiplied by state.rescale.
template <typename T>
bool UpdateSoftmax(T* scores, int64_t num_keys, int64_t lanes, Softmax<T> state) {
  // Several vectors at once, since each depends on its own previous maximum and sum.
  constexpr int kVectors = kVectorBytes == 64 ? 4 : 2;
  bool moved = false;
  int64_t lane = 0;
  for (; lane + kVectors * kLanes<T> <= lanes; lane += kVectors * kLanes<T>) {
    moved |= UpdateVectors<kVectors>(scores + lane, num_keys, From(state, lane));
  }
  for (; lane < lanes; lane += kLanes<T>) {
    moved |= UpdateVectors<1>(scores + lane, num_keys, From(state, lane));
  }
  return moved;
}

// Leaves, in `rescale`, the factors that normalise the output.
template <typename T>
void FinishSoftmax(int64_t lanes, T dropout_factor, Softmax<T> state) {
  for (int64_t i = 0; i < lanes; ++i) {
    state.rescale[i] = state.sum[i] == 0 ? T{0} : dropout_factor / state.sum[i];
  }
}

template <typename T>
inline T LogSumExp(Softmax<T> state, int64_t lane) {
  return static_cast<T>(kLn2) * (state.shift[lane] + std::log2(state.sum[lane]));
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_SOFTMAX_INL_H_
