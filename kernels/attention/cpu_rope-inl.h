// Rotary position embeddings on rows of a tile. Compiled once per instruction set (simd-inl.h).
#ifndef KERNELS_ATTENTION_CPU_ROPE_INL_H_
#define KERNELS_ATTENTION_CPU_ROPE_INL_H_

#include "kernels/attention/problem.h"
#include "kernels/native/simd-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

// The row of the tables of query 0 and of key 0.
inline int64_t FirstQueryRow(const Problem& p) { return p.seq_k > p.seq_q ? p.seq_k - p.seq_q : 0; }
inline int64_t FirstKeyRow(const Problem& p) { return p.seq_q > p.seq_k ? p.seq_q - p.seq_k : 0; }

// kForward turns q and k; kInverse turns the gradients back.
enum class Turn { kForward, kInverse };

// Turns the channel pairs of `rows` rows of x, the first by row `first_row` of the tables.
// A no-op without RoPE.
template <typename T>
void RotateRows(const Problem& p, const Extras& extras, Turn turn, int64_t first_row, int64_t rows,
                T* __restrict x, int64_t stride) {
  const int64_t half = p.rotary_dim / 2;
  const T sign = turn == Turn::kForward ? T{1} : T{-1};
  for (int64_t r = 0; r < (half > 0 ? rows : 0); ++r, x += stride) {
    const T* __restrict cos = static_cast<const T*>(extras.rope_cos) + (first_row + r) * half;
    const T* __restrict sin = static_cast<const T*>(extras.rope_sin) + (first_row + r) * half;
    // Two loops, since vectors need steps that are known.
    if (p.rotary_interleaved) {
      for (int64_t c = 0; c < half; ++c) {
        const T a = x[2 * c], b = x[2 * c + 1], s = sin[c] * sign;
        x[2 * c] = a * cos[c] - b * s;
        x[2 * c + 1] = a * s + b * cos[c];
      }
    } else {
      T* __restrict second = x + half;
      for (int64_t c = 0; c < half; ++c) {
        const T a = x[c], b = second[c], s = sin[c] * sign;
        x[c] = a * cos[c] - b * s;
        second[c] = a * s + b * cos[c];
      }
    }
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_ROPE_INL_H_
