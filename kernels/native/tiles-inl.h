// Tiles of matrices: pack, transpose, multiply. Compiled once per instruction set (simd-inl.h).
//
// A tile is row-major, its rows start at multiples of 64 bytes and its padding holds zeros (or, for
// results, anything). Every product of the kernels has one form,
//
//     out[r][:] (+)= sum over k of a(r, k) * b[k][:],      a(r, k) = a[r * row_step + k * k_step]
//
// so a transposed `a` costs nothing, and vectors run along the columns only.
#ifndef KERNELS_NATIVE_TILES_INL_H_
#define KERNELS_NATIVE_TILES_INL_H_

#include <cstring>
#include <type_traits>

#include "kernels/native/simd-inl.h"

namespace kernels {
namespace KERNELS_ISA {

// Vectors that one inner loop accumulates in registers, and rows, by the number of vectors: 6 x 4 +
// 4 + 1 of AVX-512's 32 registers, 6 x 2 + 2 + 1 of the 16 that the others have. Two FMA units with
// a latency of 4 need at least 8 accumulators, so that narrow products take more rows.
constexpr int kTileVectors = kVectorBytes == 64 ? 4 : 2;
constexpr int TileRows(int vectors) {
  if (vectors == kTileVectors) return 6;
  if (vectors == 3) return 8;
  return vectors == 2 ? 12 : (kVectorBytes == 64 ? 16 : 10);
}

// What becomes of the previous contents of a product's output.
enum class Previous { kOverwrite, kAdd, kScaleAndAdd };

template <typename T>
struct LeftOperand {
  const T* data;
  int64_t row_step;
  int64_t k_step;
};

// Always inline, with the next: calls cost a tenth of the speed at a depth of 64, mostly for the
// registers that they clear.
template <typename T, Previous kPrevious, int kRows, int kVectors>
__attribute__((always_inline)) inline void MultiplyRegisters(LeftOperand<T> a, int64_t depth,
                                                             const T* b, int64_t b_stride, T* out,
                                                             int64_t out_stride, const T* scale) {
  constexpr int kWidth = kLanes<T>;
  Vec<T> sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = Vec<T>{};
      if constexpr (kPrevious != Previous::kOverwrite) {
        sum[r][v] = Load(out + r * out_stride + v * kWidth);
      }
      if constexpr (kPrevious == Previous::kScaleAndAdd) sum[r][v] *= Load(scale + v * kWidth);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vec<T> row[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) row[v] = Load(b + k * b_stride + v * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec<T> factor = Broadcast(a.data[r * a.row_step + k * a.k_step]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = MultiplyAdd(factor, row[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Store(sum[r][v], out + r * out_stride + v * kWidth);
  }
}

template <typename T, Previous kPrevious, int kRows, int kVectors>
__attribute__((always_inline)) inline void MultiplyRows(LeftOperand<T> a, int64_t rows,
                                                        int64_t depth, const T* b, int64_t b_stride,
                                                        T* out, int64_t out_stride,
                                                        const T* scale) {
  if constexpr (kRows > 0) {
    if (rows == kRows) {
      MultiplyRegisters<T, kPrevious, kRows, kVectors>(a, depth, b, b_stride, out, out_stride,
                                                       scale);
    } else {
      MultiplyRows<T, kPrevious, kRows - 1, kVectors>(a, rows, depth, b, b_stride, out, out_stride,
                                                      scale);
    }
  }
}

template <typename T, Previous kPrevious, int kVectors>
void MultiplyStrip(LeftOperand<T> a, int64_t rows, int64_t depth, const T* b, int64_t b_stride,
                   T* out, int64_t out_stride, const T* scale) {
  constexpr int kRows = TileRows(kVectors);
  while (rows > 0) {
    // The last rows in two like parts: 4 + 4 keep the units busier than 6 + 2.
    const int64_t half = rows > kRows ? (rows + 1) / 2 : rows;
    const int64_t next = rows >= 2 * kRows ? kRows : half;
    MultiplyRows<T, kPrevious, kRows, kVectors>(a, next, depth, b, b_stride, out, out_stride,
                                                scale);
    rows -= next;
    a.data += next * a.row_step;
    out += next * out_stride;
  }
}

template <typename T, Previous kPrevious, int kVectors>
void MultiplyLastVectors(LeftOperand<T> a, int64_t rows, int64_t depth, const T* b,
                         int64_t b_stride, int64_t vectors, T* out, int64_t out_stride,
                         const T* scale) {
  if constexpr (kVectors > 0) {
    if (vectors == kVectors) {
      MultiplyStrip<T, kPrevious, kVectors>(a, rows, depth, b, b_stride, out, out_stride, scale);
    } else {
      MultiplyLastVectors<T, kPrevious, kVectors - 1>(a, rows, depth, b, b_stride, vectors, out,
                                                      out_stride, scale);
    }
  }
}

// The product above: `rows` x `vectors * kLanes` results, each a sum of `depth` terms. With
// kScaleAndAdd, column c of the previous contents is first multiplied by scale[c].
template <Previous kPrevious, typename T>
void Multiply(LeftOperand<T> a, int64_t rows, int64_t depth, const T* b, int64_t b_stride,
              int64_t vectors, T* out, int64_t out_stride, const T* scale = nullptr) {
  constexpr int kColumns = kTileVectors * kLanes<T>;
  for (; vectors >= kTileVectors; vectors -= kTileVectors) {
    MultiplyStrip<T, kPrevious, kTileVectors>(a, rows, depth, b, b_stride, out, out_stride, scale);
    b += kColumns;
    out += kColumns;
    if (scale != nullptr) scale += kColumns;
  }
  MultiplyLastVectors<T, kPrevious, kTileVectors - 1>(a, rows, depth, b, b_stride, vectors, out,
                                                      out_stride, scale);
}

// bfloat16: the upper half of an IEEE single.
struct BFloat16 {
  uint16_t bits;
};

// IEEE half precision.
struct Float16 {
  uint16_t bits;
};

inline float FloatOfBits(uint32_t bits) {
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}
inline uint32_t BitsOfFloat(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

inline float Widen(float x) { return x; }
inline double Widen(double x) { return x; }
inline float Widen(BFloat16 x) { return FloatOfBits(static_cast<uint32_t>(x.bits) << 16); }
// Without subnormal floats on the way, which some callers' threads flush to zero.
inline float Widen(Float16 x) {
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  // The exponent's bias grows by 112; infinity and NaN have all its bits set.
  const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  const uint32_t normal = (magnitude + 0x38000000u) | special;
  const uint32_t subnormal = BitsOfFloat(FloatOfBits(magnitude + 0x38800000u) - 0x1p-14f);
  return FloatOfBits((magnitude < 0x00800000u ? subnormal : normal) | sign);
}

inline void Narrow(float x, float* out) { *out = x; }
inline void Narrow(double x, double* out) { *out = x; }
// Rounds to nearest, ties to even; a NaN stays a NaN.
inline void Narrow(float x, BFloat16* out) {
  const uint32_t bits = BitsOfFloat(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  out->bits = static_cast<uint16_t>(is_nan ? (bits >> 16) | 0x40u : rounded);
}
// The same. Subnormal halves, below 2^-14, are what an addition of 0.5 leaves in the low bits.
inline void Narrow(float x, Float16* out) {
  const uint32_t bits = BitsOfFloat(x), magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
  const uint32_t subnormal = BitsOfFloat(FloatOfBits(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  // From 65520 on, halfway to what would come next, it is infinity.
  half = magnitude >= 0x477ff000u ? 0x7c00u : half;
  half = magnitude > 0x7f800000u ? 0x7e00u : half;
  out->bits = static_cast<uint16_t>(half | ((bits >> 16) & 0x8000u));
}

// Whole vectors first: loops of constant length become single instructions.
template <typename In, typename T>
inline void WidenRow(const In* __restrict in, int64_t count, T* __restrict out) {
  int64_t c = 0;
  for (; c + kLanes<T> <= count; c += kLanes<T>) {
    for (int lane = 0; lane < kLanes<T>; ++lane) out[c + lane] = Widen(in[c + lane]);
  }
  for (; c < count; ++c) out[c] = Widen(in[c]);
}

template <typename T, typename Out>
inline void NarrowRow(const T* __restrict in, int64_t count, T factor, Out* __restrict out) {
  int64_t c = 0;
  for (; c + kLanes<T> <= count; c += kLanes<T>) {
    for (int lane = 0; lane < kLanes<T>; ++lane) Narrow(in[c + lane] * factor, &out[c + lane]);
  }
  for (; c < count; ++c) Narrow(in[c] * factor, &out[c]);
}

// Copies rows x columns of an array into a tile and fills the tile's padding, up to `padded_rows`
// rows and the whole stride, with zeros.
template <typename In, typename T>
void PackRows(const In* in, int64_t in_stride, int64_t rows, int64_t columns, T* out,
              int64_t out_stride, int64_t padded_rows) {
  for (int64_t r = 0; r < rows; ++r) {
    WidenRow(in + r * in_stride, columns, out + r * out_stride);
    for (int64_t c = columns; c < out_stride; ++c) out[r * out_stride + c] = T{0};
  }
  std::memset(out + rows * out_stride, 0, (padded_rows - rows) * out_stride * sizeof(T));
}

// Rows that a product reads as its left operand.
template <typename T>
struct Rows {
  const T* data;
  int64_t stride;
};

// Copies rows x columns of a tile, times `factor`, into an array.
template <typename T, typename Out>
void UnpackRows(const T* in, int64_t in_stride, int64_t rows, int64_t columns, T factor, Out* out,
                int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    NarrowRow(in + r * in_stride, columns, factor, out + r * out_stride);
  }
}

// out = factor * transpose(in). Rows and columns are multiples of kLanes.
template <typename T>
void TransposeTile(const T* in, int64_t in_stride, int64_t rows, int64_t columns, T factor, T* out,
                   int64_t out_stride) {
  constexpr int kWidth = kLanes<T>;
  for (int64_t r = 0; r < rows; r += kWidth) {
    for (int64_t c = 0; c < columns; c += kWidth) {
      Vec<T> square[kWidth];
      for (int i = 0; i < kWidth; ++i) square[i] = Load(in + (r + i) * in_stride + c) * factor;
      Transpose<T>(square);
      for (int i = 0; i < kWidth; ++i) Store(square[i], out + (c + i) * out_stride + r);
    }
  }
}

// Of `count` rows of a tile, `stride` apart and padded to that. In several sums, for each addition
// waits for the one before it.
template <typename T>
bool AllFinite(const T* rows, int64_t count, int64_t stride) {
  constexpr int kSums = 4;
  const int64_t size = count * stride;
  Vec<T> sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums * kLanes<T> <= size; i += kSums * kLanes<T>) {
#pragma GCC unroll 4
    for (int s = 0; s < kSums; ++s) sums[s] += Load(rows + i + s * kLanes<T>) * T{0};
  }
  for (; i < size; i += kLanes<T>) sums[0] += Load(rows + i) * T{0};
  const Vec<T> sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return !Any(sum != sum);
}

}  // namespace KERNELS_ISA
}  // namespace kernels

#endif  // KERNELS_NATIVE_TILES_INL_H_
