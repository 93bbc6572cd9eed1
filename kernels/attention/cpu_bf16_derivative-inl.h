// The derivative of the softmax in the bfloat16 path: tiles of S and dP in, operand tiles of P and
// dS out. Compiled once per engine.
#ifndef KERNELS_ATTENTION_CPU_BF16_DERIVATIVE_INL_H_
#define KERNELS_ATTENTION_CPU_BF16_DERIVATIVE_INL_H_

#include "kernels/attention/cpu_bf16_softmax-inl.h"
#include "kernels/attention/cpu_bf16_tasks.h"

namespace kernels::attention {
namespace KERNELS_ISA {

constexpr int64_t kQueryTiles = kBlockQ / kTileSide;

// Tiles of keys, and blocks of queries, of one step of the backward pass: the deeper its products,
// the rarer their sums are read and written.
constexpr int64_t kStepTiles = 2;
constexpr int64_t kStepDepth = kStepTiles * kBlockQ / kTileDepth;
constexpr int64_t kStepSize = kStepTiles * kTileKeys * kStepTiles * kBlockQ;

// P and dS of a step.
struct StepOperands {
  Bits16* p;         // [key / 16, query / 32]: left tiles, depths in the order of PackRightRows.
  Bits16* ds;        // The same.
  Bits16* ds_pairs;  // [key / 32, query / 16]: right tiles.
};

// Row `key` of tile (i, j) of a left operand, for queries [32 * half, 32 * half + 32).
inline Bits16* LeftRow(Bits16* tiles, int64_t i, int64_t j, int64_t key, int64_t half) {
  const int64_t row = i * kTileKeys + key;
  const int64_t step = j * kBlockQ / kTileDepth + half;
  return tiles + (row / kTileSide * kStepDepth + step) * kTileSize + row % kTileSide * kTileDepth;
}

// Keys 2 * pair and 2 * pair + 1 of tile (i, j) of the right operand.
inline Bits16* RightRow(Bits16* tiles, int64_t i, int64_t j, int64_t pair, int64_t vector) {
  const int64_t row = i * kTileKeys / 2 + pair;
  const int64_t tile = row / kTileSide * kStepTiles * kQueryTiles + j * kQueryTiles + vector;
  return tiles + tile * kTileSize + row % kTileSide * kTileDepth;
}

// What rounds to the nearest once the lower word is cut off.
inline __m512i AddHalf(Vec<float> x) {
  return _mm512_add_epi32(reinterpret_cast<__m512i>(x), _mm512_set1_epi32(0x8000));
}

// Packs P and dS of two keys and 32 queries: p[key][vector], ds[key][vector].
inline void StorePair(const __m512i (&p)[2][2], const __m512i (&ds)[2][2], int64_t i, int64_t j,
                      int64_t pair, int64_t half, const StepOperands& out) {
#pragma GCC unroll 2
  for (int key = 0; key < 2; ++key) {
    _mm512_store_si512(LeftRow(out.p, i, j, 2 * pair + key, half),
                       UpperWords(p[key][0], p[key][1]));
    _mm512_store_si512(LeftRow(out.ds, i, j, 2 * pair + key, half),
                       UpperWords(ds[key][0], ds[key][1]));
  }
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v) {
    _mm512_store_si512(RightRow(out.ds_pairs, i, j, pair, 2 * half + v),
                       UpperWords(ds[0][v], ds[1][v]));
  }
}

// Tile (i, j) of a step where all see all; scores are still to be multiplied by `factor`.
inline void DifferentiateTile(const float* scores, const float* grads, float factor,
                              const RowTerms<float>& rows, int64_t i, int64_t j,
                              const StepOperands& out, ProductQueue* queue) {
  const Vec<float> scale = Broadcast(factor);
  Interleaver interleave(queue, kTileKeys);
  for (int64_t half = 0; half < 2; ++half) {
    Vec<float> lse[2], delta[2];
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      lse[v] = Load(rows.lse + half * kBlockSide + v * kTileSide);
      delta[v] = Load(rows.delta + half * kBlockSide + v * kTileSide);
    }
    for (int64_t pair = 0; pair < kTileKeys / 2; ++pair) {
      __m512i p[2][2], ds[2][2];
#pragma GCC unroll 2
      for (int key = 0; key < 2; ++key) {
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          const int64_t at = (2 * pair + key) * kBlockQ + half * kBlockSide + v * kTileSide;
          const Vec<float> probability =
              Exp2Short(_mm512_fmsub_ps(Load(scores + at), scale, lse[v]));
          p[key][v] = AddHalf(probability);
          ds[key][v] = AddHalf(probability * (Load(grads + at) - delta[v]));
        }
      }
      StorePair(p, ds, i, j, pair, half, out);
      interleave();
    }
  }
}

// The same for finished P and dS.
inline void PackDerivatives(const float* probabilities, const float* grads, int64_t i, int64_t j,
                            const StepOperands& out) {
  for (int64_t half = 0; half < 2; ++half) {
    for (int64_t pair = 0; pair < kTileKeys / 2; ++pair) {
      __m512i p[2][2], ds[2][2];
      for (int key = 0; key < 2; ++key) {
        for (int v = 0; v < 2; ++v) {
          const int64_t at = (2 * pair + key) * kBlockQ + half * kBlockSide + v * kTileSide;
          p[key][v] = AddHalf(Load(probabilities + at));
          ds[key][v] = AddHalf(Load(grads + at));
        }
      }
      StorePair(p, ds, i, j, pair, half, out);
    }
  }
}

// Makes tile (i, j) zero.
inline void ClearTile(int64_t i, int64_t j, const StepOperands& out) {
  for (int64_t key = 0; key < kTileKeys; ++key) {
    for (int64_t half = 0; half < 2; ++half) {
      std::memset(LeftRow(out.p, i, j, key, half), 0, kTileDepth * sizeof(Bits16));
      std::memset(LeftRow(out.ds, i, j, key, half), 0, kTileDepth * sizeof(Bits16));
    }
  }
  for (int64_t pair = 0; pair < kTileKeys / 2; ++pair) {
    for (int64_t v = 0; v < kQueryTiles; ++v) {
      std::memset(RightRow(out.ds_pairs, i, j, pair, v), 0, kTileDepth * sizeof(Bits16));
    }
  }
}

// The sum of products of two rows.
inline float DotRows(const Bits16* a, const Bits16* b, int64_t count) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
  Vec<float> sum{};
  for (int64_t c = 0; c < count; c += kTileDepth) {
    const int64_t left = count - c;
    const __mmask32 mask = left >= kTileDepth ? ~0u : (1u << left) - 1;
    const __m512i x = _mm512_maskz_loadu_epi16(mask, a + c);
    const __m512i y = _mm512_maskz_loadu_epi16(mask, b + c);
    sum = MultiplyAdd(Bits(_mm512_and_si512(x, upper)), Bits(_mm512_and_si512(y, upper)), sum);
    sum = MultiplyAdd(Bits(_mm512_slli_epi32(x, 16)), Bits(_mm512_slli_epi32(y, 16)), sum);
  }
  return _mm512_reduce_add_ps(sum);
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_BF16_DERIVATIVE_INL_H_
