// Blocks of values to codes and scales, and back. Compiled once per instruction set (simd-inl.h).
//
// A block is read from memory in one loop, which finds the largest magnitude, and coded in a second
// one, which finds the values in the first-level cache.
#ifndef KERNELS_QUANTIZE_CPU_BLOCKS_INL_H_
#define KERNELS_QUANTIZE_CPU_BLOCKS_INL_H_

#include "kernels/quantize/cpu_codes-inl.h"

namespace kernels::quantize {
namespace KERNELS_ISA {

// MIN_SCALE and MAX_MAGNITUDE of contract.py.
constexpr float kMinScale = 0x1p-126f, kMaxMagnitude = 0x1.fffffcp127f;
// Bits of the NaN that is a scale.
constexpr int32_t kNan = 0x7fc00000;

inline float FloatOfBits(int32_t bits) {
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

inline float Clamp(float x, float least, float largest) {
  return x < least ? least : (x > largest ? largest : x);
}

// A block that has been read: into the first-level cache, if no further.
template <typename T>
struct Staged {
  const T* values;
  // Bits, of float32, of the largest magnitude. As integers they are in the order of the numbers,
  // with infinity and then NaN above all; those of narrower floats too.
  int32_t magnitude;
};

template <typename T>
inline Staged<T> Stage(const T* x, int64_t count) {
  using Bits = std::conditional_t<sizeof(T) == sizeof(int32_t), int32_t, int16_t>;
  constexpr Bits kMagnitude = std::numeric_limits<Bits>::max();
  Vec<Bits> largest{};
#pragma GCC unroll 4
  for (int64_t i = 0; i < count; i += kLanes<Bits>) {
    Prefetch<0>(x + i, kLanes<Bits>);
    const Vec<Bits> magnitude = LoadAny<Vec<Bits>>(x + i) & kMagnitude;
    largest = magnitude > largest ? magnitude : largest;
  }
  const Ints bits = Broadcast(int32_t{LargestLane<Bits>(largest)});
  return {x, BitsOf(ValuesOf(bits, T{}))[0]};
}

// The same with a residual added, in float32: in `v`, memory for a block.
template <typename T>
inline Staged<float> StageSum(const T* x, const float* residual, int64_t count, float* v) {
  Ints largest{};
#pragma GCC unroll 4
  for (int64_t i = 0; i < count; i += kWidth) {
    Prefetch<0>(x + i);
    Prefetch<1>(residual + i);
    const Floats value = LoadValues(x + i) + LoadValues(residual + i);
    StoreAny(value, v + i);
    const Ints magnitude = BitsOf(value) & ~kSign;
    largest = magnitude > largest ? magnitude : largest;
  }
  return {v, LargestLane<int32_t>(largest)};
}

// Codes a block of values that are finite and not all zeros, and returns the scale.
template <Format kFormat, Rounding kRounding, bool kHasResidual, typename T>
float EncodeBlock(Staged<T> block, int64_t count, NoiseKey noise, uint8_t* codes, float* residual) {
  constexpr float kMaxValue = FormatTraits<kFormat>::kMaxValue;
  const float magnitude = Clamp(FloatOfBits(block.magnitude), kMaxValue * kMinScale, kMaxMagnitude);
  const float scale = magnitude / kMaxValue, inverse = kMaxValue / magnitude;
  // Made where it is needed only: that takes as long as some vectors.
  const std::conditional_t<kRounding == Rounding::kStochastic, Noise, NoiseKey> random(noise);
#pragma GCC unroll 4
  for (int64_t i = 0; i < count; i += kWidth) {
    const Floats v = LoadValues(block.values + i);
    Encoded encoded;
    if constexpr (kRounding == Rounding::kNearest) {
      encoded = EncodeNearest<kFormat>(v, Broadcast(inverse));
    } else {
      const Floats drawn = random.Draw(static_cast<uint32_t>(i));
      encoded = EncodeStochastic<kFormat>(v, Broadcast(inverse), drawn);
    }
    StoreBytes(encoded.codes, codes + i);
    if constexpr (kHasResidual) {
      StoreAny(v - Times(encoded.values, Broadcast(scale)), residual + i);
    }
  }
  return scale;
}

// Codes a block and returns its scale. The new residual of a block that is not finite is the old.
template <Format kFormat, Rounding kRounding, bool kHasResidual, typename T>
float QuantizeBlock(Staged<T> block, int64_t count, NoiseKey noise, const float* residual_in,
                    uint8_t* codes, float* residual_out) {
  Prefetch<1>(codes, count);
  if (block.magnitude > 0 && block.magnitude < kInfinity) {
    return EncodeBlock<kFormat, kRounding, kHasResidual>(block, count, noise, codes, residual_out);
  }
  const bool is_finite = block.magnitude < kInfinity;
  for (int64_t i = 0; i < count; i += kWidth) {
    StoreBytes(Ints{}, codes + i);
    if constexpr (kHasResidual) {
      StoreAny(LoadValues((is_finite ? block.values : residual_in) + i), residual_out + i);
    }
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
