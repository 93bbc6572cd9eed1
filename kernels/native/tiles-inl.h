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

// Rows and vectors that one inner loop accumulates in registers: 6 x 4 + 4 + 1 of AVX-512's 32
// registers, 6 x 2 + 2 + 1 of the 16 that the others have. Two FMA units with a latency of 4 need
// at least 8 accumulators.
constexpr int kTileRows = 6;
constexpr int kTileVectors = kVectorBytes == 64 ? 4 : 2;

// What becomes of the previous contents of a product's output.
enum class Previous { kOverwrite, kAdd, kScaleAndAdd };

template <typename T>
struct LeftOperand {
  const T* data;
  int64_t row_step;
  int64_t k_step;
};

template <typename T, Previous kPrevious, int kRows, int kVectors>
inline void MultiplyRegisters(LeftOperand<T> a, int64_t depth, const T* b, int64_t b_stride, T* out,
                              int64_t out_stride, const T* scale) {
  constexpr int kWidth = kLanes<T>;
  Vec<T> sum[kRows][kVectors];
#pragma GCC unroll 8
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
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec<T> factor = Broadcast(a.data[r * a.row_step + k * a.k_step]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = MultiplyAdd(factor, row[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Store(sum[r][v], out + r * out_stride + v * kWidth);
  }
}

template <typename T, Previous kPrevious, int kRows, int kVectors>
inline void MultiplyLastRows(LeftOperand<T> a, int64_t rows, int64_t depth, const T* b,
                             int64_t b_stride, T* out, int64_t out_stride, const T* scale) {
  if constexpr (kRows > 0) {
    if (rows == kRows) {
      MultiplyRegisters<T, kPrevious, kRows, kVectors>(a, depth, b, b_stride, out, out_stride,
                                                       scale);
    } else {
      MultiplyLastRows<T, kPrevious, kRows - 1, kVectors>(a, rows, depth, b, b_stride, out,
                                                          out_stride, scale);
    }
  }
}

template <typename T, Previous kPrevious, int kVectors>
inline void MultiplyStrip(LeftOperand<T> a, int64_t rows, int64_t depth, const T* b,
                          int64_t b_stride, T* out, int64_t out_stride, const T* scale) {
  const auto advance = [&](int64_t done) {
    rows -= done;
    a.data += done * a.row_step;
    out += done * out_stride;
  };
  while (rows >= 2 * kTileRows) {
    MultiplyRegisters<T, kPrevious, kTileRows, kVectors>(a, depth, b, b_stride, out, out_stride,
                                                         scale);
    advance(kTileRows);
  }
  // The rest in two like parts: 4 + 4 rows keep the units busier than 6 + 2.
  const int64_t half = rows > kTileRows ? (rows + 1) / 2 : rows;
  MultiplyLastRows<T, kPrevious, kTileRows, kVectors>(a, half, depth, b, b_stride, out, out_stride,
                                                      scale);
  advance(half);
  MultiplyLastRows<T, kPrevious, kTileRows, kVectors>(a, rows, depth, b, b_stride, out, out_stride,
                                                      scale);
}

template <typename T, Previous kPrevious, int kVectors>
inline void MultiplyLastVectors(LeftOperand<T> a, int64_t rows, int64_t depth, const T* b,
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

inline float Widen(float x) { return x; }
inline double Widen(double x) { return x; }
inline float Widen(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

inline void Narrow(float x, float* out) { *out = x; }
inline void Narrow(double x, double* out) { *out = x; }
// Rounds to nearest, ties to even; a NaN stays a NaN.
inline void Narrow(float x, BFloat16* out) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  out->bits = static_cast<uint16_t>(is_nan ? (bits >> 16) | 0x40u : rounded);
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

// Rows of an array in the type of the sums: in place if they have it already and `is_reused` is
// false, else copied into `tile`. Rows far apart crowd a few sets of the cache, so a copy pays off
// when several products read it.
template <typename In, typename T>
Rows<T> ReadRows(const In* in, int64_t in_stride, int64_t rows, int64_t columns, bool is_reused,
                 T* tile, int64_t tile_stride) {
  if constexpr (std::is_same<In, T>::value) {
    if (!is_reused) return {in, in_stride};
  }
  PackRows(in, in_stride, rows, columns, tile, tile_stride, rows);
  return {tile, tile_stride};
}

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

}  // namespace KERNELS_ISA
}  // namespace kernels

#endif  // KERNELS_NATIVE_TILES_INL_H_
