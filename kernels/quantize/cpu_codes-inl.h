// Values to codes and back, a vector at a time. Compiled once per instruction set (simd-inl.h).
//
// As reference.py, whose every product and sum is rounded by itself: `Times` keeps the compiler
// from fusing a product into a sum.
#ifndef KERNELS_QUANTIZE_CPU_CODES_INL_H_
#define KERNELS_QUANTIZE_CPU_CODES_INL_H_

#include "kernels/quantize/cpu_values-inl.h"

namespace kernels::quantize {
namespace KERNELS_ISA {

// What a format is made of; as FORMATS in contract.py. An int8 is a float of one exponent.
template <Format kFormat>
struct FormatTraits;
template <>
struct FormatTraits<Format::kInt8> {
  static constexpr bool kIsFloat = false;
  static constexpr int kMantissaBits = 0, kMinExponent = 0;
  static constexpr float kMaxValue = 127.0f;
};
template <>
struct FormatTraits<Format::kFloat8E4M3> {
  static constexpr bool kIsFloat = true;
  static constexpr int kMantissaBits = 3, kMinExponent = -6;
  static constexpr float kMaxValue = 448.0f;
};
template <>
struct FormatTraits<Format::kFloat8E5M2> {
  static constexpr bool kIsFloat = true;
  static constexpr int kMantissaBits = 2, kMinExponent = -14;
  static constexpr float kMaxValue = 57344.0f;
};

// Rounded by itself: the compiler must not fuse it into a sum.
inline Floats Times(Floats a, Floats b) {
  Floats product = a * b;
#if defined(__x86_64__)
  asm("" : "+v"(product));
#elif defined(__aarch64__)
  asm("" : "+w"(product));
#else
  asm("" : "+m"(product));
#endif
  return product;
}

// The smaller one, for numbers that are not NaN.
inline Floats Min(Floats a, Floats b) { return a < b ? a : b; }

inline uint32_t Mix(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}
inline Words Mix(Words x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// What the random numbers of a block are made of.
struct NoiseKey {
  uint32_t seed;
  uint64_t first_index;
};

// The random numbers of a block, as `uniform` in reference.py. The high half of the index, and so
// the key made of it, changes at most once within a block: where the low half starts again.
class Noise {
 public:
  explicit Noise(NoiseKey key)
      : first_(static_cast<uint32_t>(key.first_index)),
        key_(Key(key.seed, static_cast<uint32_t>(key.first_index >> 32))),
        next_key_(Key(key.seed, static_cast<uint32_t>(key.first_index >> 32) + 1)) {
    for (int lane = 0; lane < kWidth; ++lane) lanes_[lane] = first_ + lane;
    products_ = (lanes_ + 1u) * kGoldenRatio;
  }

  // Numbers in [0, 1) for the values from the i-th of the block on.
  Floats Draw(uint32_t i) const {
    const Words index = lanes_ + i;
    const Words key = index < first_ ? Broadcast(next_key_) : Broadcast(key_);
    const Words drawn = Mix(key ^ Mix(products_ + i * kGoldenRatio)) >> 8;
    return ToFloats(reinterpret_cast<Ints>(drawn)) * 0x1p-24f;
  }

 private:
  static constexpr uint32_t kGoldenRatio = 0x9e3779b9u;

  static uint32_t Key(uint32_t seed, uint32_t high) {
    return Mix(seed + kGoldenRatio * (high + 1));
  }

  const uint32_t first_, key_, next_key_;
  Words lanes_;
  Words products_;  // Of the indices plus 1 and the golden ratio.
};

struct Encoded {
  Ints codes;
  Floats values;  // What the codes stand for, without the scale.
};

// Of y, at least that of the smallest normal number of the format; as bits that are nothing else.
template <Format kFormat>
inline Ints Exponent(Floats y) {
  using Traits = FormatTraits<kFormat>;
  constexpr int32_t kLeast = (kBias + Traits::kMinExponent) << kMantissa;
  if constexpr (!Traits::kIsFloat) return Broadcast(kLeast);
  const Ints own = BitsOf(y) & kInfinity;
  return own > kLeast ? own : Broadcast(kLeast);
}

// The code of a number of steps of 2^(exponent - kMantissaBits), with a sign.
template <Format kFormat>
inline Ints CodeOf(Ints steps, Ints exponent, Ints sign) {
  using Traits = FormatTraits<kFormat>;
  if constexpr (Traits::kIsFloat) {
    constexpr int32_t kLeast = (kBias + Traits::kMinExponent) << kMantissa;
    return (steps + ((exponent - kLeast) >> (kMantissa - Traits::kMantissaBits))) | (sign >> 24);
  } else {
    const Ints negative = sign >> 31;
    return (steps ^ negative) - negative;
  }
}

// Rounds v * inverse, whose magnitudes exceed the largest value of the format by no more than
// rounding, which takes that away again.
template <Format kFormat>
inline Encoded EncodeNearest(Floats v, Floats inverse) {
  const Floats y = Times(v, inverse);
  if constexpr (!FormatTraits<kFormat>::kIsFloat) {
    // Floats near this one are whole numbers, and their low bits count up from it.
    const Floats whole = Broadcast(0x1.8p23f);
    const Floats sum = y + whole;
    return {BitsOf(sum) - BitsOf(whole), sum - whole};
  }
  const Ints exponent = Exponent<kFormat>(y);
  // The neighbours of a float so large are a step apart, so that adding it rounds y to steps and
  // leaves their number in the low bits.
  const Ints large = exponent + ((kMantissa - FormatTraits<kFormat>::kMantissaBits) << kMantissa);
  const Ints signed_large = large | (BitsOf(v) & kSign);
  const Floats sum = y + FloatsOf(signed_large);
  const Floats rounded = sum - FloatsOf(signed_large);
  // A zero has no sign, whatever became zero.
  const Ints sign = BitsOf(rounded) & kSign;
  return {CodeOf<kFormat>(BitsOf(sum) - signed_large, exponent, sign), rounded};
}

// The same, up where the random number is below the fraction above the step below.
template <Format kFormat>
inline Encoded EncodeStochastic(Floats v, Floats inverse, Floats random) {
  using Traits = FormatTraits<kFormat>;
  constexpr int kStepBits = Traits::kMantissaBits;
  const Floats magnitude = FloatsOf(BitsOf(v) & ~kSign);
  const Floats y = Min(Times(magnitude, inverse), Broadcast(Traits::kMaxValue));
  const Ints exponent = Exponent<kFormat>(y);
  const Floats exact = y * FloatsOf(((2 * kBias + kStepBits) << kMantissa) - exponent);
  const Ints below = __builtin_convertvector(exact, Ints);
  // A mask is -1 where it holds.
  const Ints steps = below - (random < exact - ToFloats(below));
  const Floats rounded = ToFloats(steps) * FloatsOf(exponent - (kStepBits << kMantissa));
  const Ints sign = steps > 0 ? BitsOf(v) & kSign : Ints{};
  return {CodeOf<kFormat>(steps, exponent, sign), FloatsOf(BitsOf(rounded) | sign)};
}

// What the codes at `codes` stand for, without the scale.
template <Format kFormat>
inline Floats Decode(const uint8_t* codes) {
  using Traits = FormatTraits<kFormat>;
  if constexpr (!Traits::kIsFloat) {
    return ToFloats(WidenBytes(codes));
  } else {
    constexpr int kStepBits = Traits::kMantissaBits;
    constexpr int32_t kRebias = kBias + Traits::kMinExponent - 1;
    const Ints code = WidenBytes(codes);
    const Ints magnitude = code & 0x7f;
    const Ints normal = (magnitude << (kMantissa - kStepBits)) + (kRebias << kMantissa);
    // In steps of 2^(min_exponent - mantissa_bits).
    constexpr float kStep = 1.0f / (1 << (kStepBits - Traits::kMinExponent));
    const Ints subnormal = BitsOf(ToFloats(magnitude) * kStep);
    const Ints bits = magnitude < (1 << kStepBits) ? subnormal : normal;
    return FloatsOf(bits | ((code & 0x80) << 24));
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels::quantize

#endif  // KERNELS_QUANTIZE_CPU_CODES_INL_H_
