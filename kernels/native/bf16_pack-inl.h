// Packs rows of bfloat16 into the operand tiles of bf16_tiles-inl.h. Compiled once per engine.
//
// All read a stage: kBlockSide rows of `width` elements, a multiple of kBlockSide, padded with
// zeros where the array has less.
#ifndef KERNELS_NATIVE_BF16_PACK_INL_H_
#define KERNELS_NATIVE_BF16_PACK_INL_H_

#include "kernels/native/bf16_tiles-inl.h"

namespace kernels {
namespace KERNELS_ISA {

inline Vec<float> Bits(__m512i x) { return reinterpret_cast<Vec<float>>(x); }
inline __m512i Words(const Bits16* p) { return _mm512_loadu_si512(p); }

// The lower (kFirst 0) or upper (16) words of a and b, alternating.
template <int kFirst>
inline __m512i AlternateWords(__m512i a, __m512i b) {
  return reinterpret_cast<__m512i>(Interleave<uint16_t, kFirst>(
      reinterpret_cast<Vec<uint16_t>>(a), reinterpret_cast<Vec<uint16_t>>(b),
      std::make_integer_sequence<int, kLanes<uint16_t>>{}));
}

// Copies `columns` elements and adds the padding.
inline void StageRow(const Bits16* in, int64_t columns, int64_t width, Bits16* stage) {
  std::memcpy(stage, in, columns * sizeof(Bits16));
  std::memset(stage + columns, 0, (width - columns) * sizeof(Bits16));
}

inline void StageRows(const Bits16* in, int64_t in_stride, int64_t rows, int64_t columns,
                      int64_t width, Bits16* stage) {
  for (int64_t r = 0; r < rows; ++r) {
    StageRow(in + r * in_stride, columns, width, stage + r * width);
  }
  std::memset(stage + rows * width, 0, (kBlockSide - rows) * width * sizeof(Bits16));
}

// Rounds rows of floats, aligned and already padded.
inline void StageFloats(const float* in, int64_t rows, int64_t width, Bits16* stage) {
  for (int64_t i = 0; i < rows * width; i += 2 * kTileSide) {
    const auto both =
        _mm512_cvtne2ps_pbh(_mm512_load_ps(in + i + kTileSide), _mm512_load_ps(in + i));
    _mm512_store_si512(stage + i, (__m512i)both);
  }
  std::memset(stage + rows * width, 0, (kBlockSide - rows) * width * sizeof(Bits16));
}

// Whether no element of a stage is infinite or NaN.
inline bool AllFinite(const Bits16* stage, int64_t width) {
  const __m512i exponent = _mm512_set1_epi16(0x7f80);
  __mmask32 special = 0;
  for (int64_t i = 0; i < kBlockSide * width; i += kTileDepth) {
    special |= _mm512_cmpeq_epi16_mask(_mm512_and_si512(Words(stage + i), exponent), exponent);
  }
  return special == 0;
}

// The largest sum of squares of a row.
inline float LargestSquare(const Bits16* stage, int64_t rows, int64_t width) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
  float largest = 0;
  for (int64_t r = 0; r < rows; ++r) {
    Vec<float> sum{};
    for (int64_t c = 0; c < width; c += kTileDepth) {
      const __m512i x = Words(stage + r * width + c);
      const Vec<float> odd = Bits(_mm512_and_si512(x, upper));
      const Vec<float> even = Bits(_mm512_slli_epi32(x, 16));
      sum = MultiplyAdd(odd, odd, MultiplyAdd(even, even, sum));
    }
    const float square = _mm512_reduce_add_ps(sum);
    if (!(square <= largest)) largest = square;  // A NaN stays.
    if (largest != largest) return largest;
  }
  return largest;
}

// Left tiles whose rows are the stage's: [row tile 0..1][width / 32], `row_step` apart.
inline void PackLeft(const Bits16* stage, int64_t width, Bits16* out, int64_t row_step) {
  for (int64_t r = 0; r < kBlockSide; ++r) {
    Bits16* tile = out + r / kTileSide * row_step + r % kTileSide * kTileDepth;
    for (int64_t c = 0; c < width; c += kTileDepth) {
      _mm512_store_si512(tile + c * kTileSide, Words(stage + r * width + c));
    }
  }
}

// Right tiles whose columns are the stage's rows: [width / 32][column tile 0..1], `depth_step`
// between steps of depth.
inline void PackRight(const Bits16* stage, int64_t width, Bits16* out, int64_t depth_step) {
  for (int64_t half = 0; half < 2; ++half) {
    for (int64_t c = 0; c < width; c += kTileDepth) {
      Vec<float> pairs[kTileSide];
      for (int64_t r = 0; r < kTileSide; ++r) {
        pairs[r] = Bits(Words(stage + (half * kTileSide + r) * width + c));
      }
      Transpose<float>(pairs);
      Bits16* tile = out + c / kTileDepth * depth_step + half * kTileSize;
      for (int64_t i = 0; i < kTileSide; ++i) {
        Store(pairs[i], reinterpret_cast<float*>(tile + i * kTileDepth));
      }
    }
  }
}

// Left tiles of the transpose: rows are the stage's columns and one step of depth its rows.
// [width / 16] tiles, one after the other.
inline void PackLeftTransposed(const Bits16* stage, int64_t width, Bits16* out) {
  for (int64_t c = 0; c < width; c += kTileDepth) {
    Vec<float> low[kTileSide], high[kTileSide];
    for (int64_t i = 0; i < kTileSide; ++i) {
      const __m512i a = Words(stage + 2 * i * width + c);
      const __m512i b = Words(stage + (2 * i + 1) * width + c);
      low[i] = Bits(AlternateWords<0>(a, b));
      high[i] = Bits(AlternateWords<kTileSide>(a, b));
    }
    Transpose<float>(low);
    Transpose<float>(high);
    Bits16* tile = out + c * kTileDepth;
    for (int64_t i = 0; i < kTileSide; ++i) {
      Store(low[i], reinterpret_cast<float*>(tile + i * kTileDepth));
      Store(high[i], reinterpret_cast<float*>(tile + kTileSize + i * kTileDepth));
    }
  }
}

// Right tiles whose columns are the stage's columns and one step of depth its rows, in the order
// 0, 16, 1, 17, ... (as ZipRows packs the left operand). [width / 16] tiles.
inline void PackRightRows(const Bits16* stage, int64_t width, Bits16* out) {
  for (int64_t i = 0; i < kTileSide; ++i) {
    for (int64_t c = 0; c < width; c += kTileDepth) {
      const __m512i a = Words(stage + i * width + c);
      const __m512i b = Words(stage + (i + kTileSide) * width + c);
      Bits16* tile = out + (c + i) * kTileDepth;
      _mm512_store_si512(tile, AlternateWords<0>(a, b));
      _mm512_store_si512(tile + kTileSize, AlternateWords<kTileSide>(a, b));
    }
  }
}

// Where words go when dwords are zipped: the lower words of a and of b, a's below b's.
inline __m512i LowerWords(__m512i a, __m512i b) {
  return _mm512_mask_shuffle_epi8(
      a, 0xccccccccccccccccu, b,
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13)));
}
// The upper words, a's below b's.
inline __m512i UpperWords(__m512i a, __m512i b) {
  return _mm512_mask_shuffle_epi8(b, 0x3333333333333333u, a,
                                  _mm512_broadcast_i32x4(_mm_setr_epi8(
                                      2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15)));
}

// a and b rounded to bfloat16 (half up), alternating. NaN stays NaN, infinity stays infinite.
inline __m512i RoundPairs(Vec<float> a, Vec<float> b) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  return UpperWords(_mm512_add_epi32(reinterpret_cast<__m512i>(a), half),
                    _mm512_add_epi32(reinterpret_cast<__m512i>(b), half));
}

}  // namespace KERNELS_ISA
}  // namespace kernels

#endif  // KERNELS_NATIVE_BF16_PACK_INL_H_
