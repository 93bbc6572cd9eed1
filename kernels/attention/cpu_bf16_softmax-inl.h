// The softmax of the bfloat16 path: tiles of scores in, operand tiles of probabilities out.
// Compiled once per engine.
//
// While AMX is at work, 512-bit multiplications, maxima and conversions run on one port of the CPU
// instead of two, and additions, logic and shuffles on both. So the exponential takes its time from
// as few of the former as it can.
#ifndef KERNELS_ATTENTION_CPU_BF16_SOFTMAX_INL_H_
#define KERNELS_ATTENTION_CPU_BF16_SOFTMAX_INL_H_

#include "kernels/attention/cpu_softmax-inl.h"
#include "kernels/native/bf16_pack-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

// 2^x within 3e-6 for x < 128. Below -126 the result is 0. NaN stays NaN.
inline Vec<float> Exp2Short(Vec<float> x) {
  const __mmask16 keep = _mm512_cmp_ps_mask(x, Broadcast(-126.0f), _CMP_NLT_UQ);
  const Vec<float> magic = Broadcast(0x1.8p23f);
  const Vec<float> shifted = x + magic;
  const Vec<float> f = x - (shifted - magic);
  Vec<float> q = MultiplyAdd(f, Broadcast(0x1.3a0266p-7f), Broadcast(0x1.c9fc18p-5f));
  q = MultiplyAdd(q, f, Broadcast(0x1.ec0378p-3f));
  q = MultiplyAdd(q, f, Broadcast(0x1.62e12cp-1f));
  q = MultiplyAdd(q, f, Broadcast(1.0f));
  return Bits(_mm512_maskz_add_epi32(keep, reinterpret_cast<__m512i>(q),
                                     _mm512_slli_epi32(reinterpret_cast<__m512i>(shifted), 23)));
}

// Scores further than this from the shift do not fit ExponentialPairs.
constexpr float kPairsLimit = 63.0f;

// Where the fixed point of ExponentialPairs lies: floats in [128, 256) have 16 fractional bits.
constexpr float kFixedPoint = 192.0f;

// 2^a and 2^b, alternating, as bfloat16, for a and b in [-63, 63], given 192 + a and 192 + b.
//
// Of those, the lower words are the fractions f, and the upper ones 0x4300 plus the integer parts
// i plus 64. The significand 2^f - 1 = f (c1 + f (c2 + f c3)), minimax in relative error, 8.6e-5,
// is computed in 16 bits for a pair at once; its upper 7 bits and i + 127 make the result.
inline __m512i ExponentialPairs(Vec<float> a, Vec<float> b) {
  const __m512i low = reinterpret_cast<__m512i>(a), high = reinterpret_cast<__m512i>(b);
  const __m512i fraction = LowerWords(low, high), whole = UpperWords(low, high);
  __m512i m = _mm512_mulhi_epu16(fraction, _mm512_set1_epi16(5050));
  m = _mm512_mulhi_epu16(fraction, _mm512_add_epi16(m, _mm512_set1_epi16(14919)));
  m = _mm512_mulhi_epu16(fraction,
                         _mm512_add_epi16(m, _mm512_set1_epi16(static_cast<int16_t>(45555))));
  m = _mm512_adds_epu16(m, _mm512_set1_epi16(1 << 8));  // Half of the last bit that stays.
  // whole << 7 is 0x8000 + (i + 64) * 2^7; the exponent's bias adds 63 more.
  constexpr int16_t kBias = static_cast<int16_t>(63 * 128 - 0x8000);
  return _mm512_add_epi16(_mm512_shldi_epi16(whole, m, 7), _mm512_set1_epi16(kBias));
}

// Address of a row of a right operand [key / 32][column tile of kBlockQ][16 pairs].
inline Bits16* PairRow(Bits16* tiles, int64_t pair, int64_t vector) {
  constexpr int64_t kColumnTiles = kBlockQ / kTileSide;
  return tiles +
         ((pair / kTileSide * kColumnTiles + vector) * kTileSide + pair % kTileSide) * kTileDepth;
}

// Does a share of the queue's work at each call, so that `calls` of them empty it.
class Interleaver {
 public:
  Interleaver(ProductQueue* queue, int64_t calls)
      : queue_(queue), steps_(queue->Remaining()), calls_(calls) {}
  inline void operator()() {
    for (credit_ += steps_; credit_ >= calls_; credit_ -= calls_) queue_->Advance();
  }

 private:
  ProductQueue* queue_;
  const int64_t steps_, calls_;
  int64_t credit_ = 0;
};

// Probabilities of scores that all see each other and lie within kPairsLimit of the shift; scores
// are still to be multiplied by `factor`. num_keys is even.
template <int kVectors>
inline void ExponentiateTile(const float* scores, int64_t num_keys, float factor,
                             Softmax<float> state, Bits16* probabilities, ProductQueue* queue) {
  const Vec<float> scale = Broadcast(factor);
  const __m512i upper = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
  Vec<float> origin[kVectors], sum[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    origin[v] = Broadcast(kFixedPoint) - Load(state.shift + v * kTileSide);
    sum[v] = Load(state.sum + v * kTileSide);
  }
  Interleaver interleave(queue, num_keys / 2);
  for (int64_t pair = 0; pair < num_keys / 2; ++pair) {
    const float* row = scores + 2 * pair * kBlockQ;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Vec<float> a = MultiplyAdd(Load(row + v * kTileSide), scale, origin[v]);
      const Vec<float> b = MultiplyAdd(Load(row + kBlockQ + v * kTileSide), scale, origin[v]);
      const __m512i p = ExponentialPairs(a, b);
      _mm512_store_si512(PairRow(probabilities, pair, v), p);
      sum[v] += Bits(_mm512_slli_epi32(p, 16));
      sum[v] += Bits(_mm512_and_si512(p, upper));
    }
    interleave();
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) Store(sum[v], state.sum + v * kTileSide);
}

// Rounds a tile [key, query] to a right operand. num_keys is even.
inline void PackPairs(const float* tile, int64_t num_keys, int64_t lanes, Bits16* out) {
  for (int64_t pair = 0; pair < num_keys / 2; ++pair) {
    for (int64_t v = 0; v < lanes / kTileSide; ++v) {
      const float* row = tile + 2 * pair * kBlockQ + v * kTileSide;
      _mm512_store_si512(PairRow(out, pair, v), RoundPairs(Load(row), Load(row + kBlockQ)));
    }
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_BF16_SOFTMAX_INL_H_
