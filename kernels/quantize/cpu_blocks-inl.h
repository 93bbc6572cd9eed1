// Blocks of values to codes and scales, and back. Compiled once per instruction set (simd-inl.h).
//
// A block is read from memory in one loop, which leaves its values in the first-level cache if they
// are not float32 there already, and is coded in a second.
#ifndef KERNELS_QUANTIZE_CPU_BLOCKS_INL_H_
#define KERNELS_QUANTIZE_CPU_BLOCKS_INL_H_

#include "kernels/quantize/cpu_codes-inl.h"

namespace kernels::quantize {
namespace KERNELS_ISA {

// Bits of float32: MIN_MAGNITUDE and MAX_MAGNITUDE of contract.py, and the NaN that is a scale.
constexpr int32_t kMinMagnitude = (kBias - 100) << kMantissa;
constexpr int32_t kMaxMagnitude = (kBias + 126) << kMantissa;
constexpr int32_t kNan = 0x7fc00000;

inline float FloatOfBits(int32_t bits) {
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

// The values of a block, as float32 with the residual added.
struct Staged {
  const float* values;
  // Bits of the largest magnitude. As integers they are in the order of the numbers, with infinity
  // and then NaN above all.
  int32_t magnitude;
};

// `v` is memory for a block.
template <bool kHasResidual, typename In>
Staged Stage(const In* x, const float* residual, int64_t count, float* v) {
  constexpr bool kCopies = kHasResidual || !std::is_same_v<In, float>;
  Ints largest{};
#pragma GCC unroll 4
  for (int64_t i = 0; i < count; i += kWidth) {
    Prefetch<0>(x + i);
    Floats value = LoadValues(x + i);
    if constexpr (kHasResidual) {
      Prefetch<1>(residual + i);
      value += LoadValues(residual + i);
    }
    if constexpr (kCopies) StoreAny(value, v + i);
    const Ints magnitude = BitsOf(value) & ~kSign;
    largest = magnitude > largest ? magnitude : largest;
  }
  Staged staged{v, 0};
  if constexpr (!kCopies) staged.values = x;
  for (int lane = 0; lane < kWidth; ++lane) {
    if (largest[lane] > staged.magnitude) staged.magnitude = largest[lane];
  }
  return staged;
}

// Codes a block of values that are finite and not all tiny, and returns the scale.
template <Format kFormat, Rounding kRounding, bool kHasResidual>
float EncodeBlock(Staged block, int64_t count, const Noise& noise, uint8_t* codes,
                  float* residual) {
  constexpr float kMaxValue = FormatTraits<kFormat>::kMaxValue;
  const float magnitude = FloatOfBits(block.magnitude);
  const float scale = magnitude / kMaxValue, inverse = kMaxValue / magnitude;
#pragma GCC unroll 4
  for (int64_t i = 0; i < count; i += kWidth) {
    const Floats v = LoadValues(block.values + i);
    Encoded encoded;
    if constexpr (kRounding == Rounding::kNearest) {
      encoded = EncodeNearest<kFormat>(v, Broadcast(inverse));
    } else {
      const Floats random = noise.Draw(static_cast<uint32_t>(i));
      encoded = EncodeStochastic<kFormat>(v, Broadcast(inverse), random);
    }
    StoreBytes(encoded.codes, codes + i);
    if constexpr (kHasResidual) {
      StoreAny(v - Times(encoded.values, Broadcast(scale)), residual + i);
    }
  }
  return scale;
}

// Codes a block and returns its scale. The new residual of a block that is not finite is the old.
template <Format kFormat, Rounding kRounding, bool kHasResidual>
float QuantizeBlock(Staged block, int64_t count, const Noise& noise, const float* residual_in,
                    uint8_t* codes, float* residual_out) {
  Prefetch<1>(codes, count);
  if (block.magnitude >= kMinMagnitude && block.magnitude < kMaxMagnitude) {
    return EncodeBlock<kFormat, kRounding, kHasResidual>(block, count, noise, codes, residual_out);
  }
  const bool is_finite = block.magnitude < kMaxMagnitude;
  const float* rest = is_finite ? block.values : residual_in;
  for (int64_t i = 0; i < count; i += kWidth) {
    StoreBytes(Ints{}, codes + i);
    if constexpr (kHasResidual) StoreAny(LoadValues(rest + i), residual_out + i);
  }
  return is_finite ? 0.0f : FloatOfBits(kNan);
}

// Puts what the codes of a block stand for in `out`.
template <Format kFormat, typename Out>
void DecodeBlock(const uint8_t* codes, int64_t count, float scale, Out* out) {
  Prefetch<0>(codes, count);
#pragma GCC unroll 4
  for (int64_t i = 0; i < count; i += kWidth) {
    Prefetch<1>(out + i);
    StoreValues(Times(Decode<kFormat>(codes + i), Broadcast(scale)), out + i);
  }
}

// Blocks of several payloads, at the same place in each.
struct Terms {
  const uint8_t* codes;
  const uint8_t* scales;
  int64_t stride;
  int64_t count;
};

// Puts `multiplier` times the sum of blocks in `out`. A line of each term's codes is added at a
// time: the sums stay in registers.
template <Format kFormat, typename Out>
void SumBlocks(const Terms& terms, int64_t count, float multiplier, Out* out) {
  constexpr int kVectors = kMinBlockSize / kWidth;
  for (int64_t i = 0; i < count; i += kMinBlockSize) {
    Floats sum[kVectors] = {};
    for (int64_t term = 0; term < terms.count; ++term) {
      const uint8_t* codes = terms.codes + term * terms.stride + i;
      Prefetch<0>(codes, kMinBlockSize);
      float scale;
      std::memcpy(&scale, terms.scales + term * terms.stride, sizeof(scale));
#pragma GCC unroll 16
      for (int k = 0; k < kVectors; ++k) {
        const Floats value = Times(Decode<kFormat>(codes + k * kWidth), Broadcast(scale));
        sum[k] = term == 0 ? value : sum[k] + value;
      }
    }
    Prefetch<1>(out + i, kMinBlockSize);
#pragma GCC unroll 16
    for (int k = 0; k < kVectors; ++k) {
      StoreValues(Times(sum[k], Broadcast(multiplier)), out + i + k * kWidth);
    }
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels::quantize

#endif  // KERNELS_QUANTIZE_CPU_BLOCKS_INL_H_
