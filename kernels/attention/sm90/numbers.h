// Two-byte floating-point numbers on the host, for tests: to float and back, to nearest even.
#ifndef KERNELS_ATTENTION_SM90_NUMBERS_H_
#define KERNELS_ATTENTION_SM90_NUMBERS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "kernels/attention/sm90/config.h"

namespace kernels::attention::sm90 {

template <class Type>
constexpr int kFractionBits = std::is_same_v<Type, BFloat16> ? 7 : 10;
template <class Type>
constexpr int kBias = std::is_same_v<Type, BFloat16> ? 127 : 15;

template <class Type>
float DecodeOne(uint16_t bits) {
  constexpr int kFraction = kFractionBits<Type>;
  const int exponent = (bits & 0x7fff) >> kFraction;
  const int fraction = bits & ((1 << kFraction) - 1);
  float value;
  if (exponent == 2 * kBias<Type> + 1) {
    value = fraction == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<float>(fraction), 1 - kBias<Type> - kFraction);
  } else {
    value = std::ldexp(static_cast<float>(fraction + (1 << kFraction)),
                       exponent - kBias<Type> - kFraction);
  }
  return bits & 0x8000 ? -value : value;
}

template <class Type>
float Decode(uint16_t bits) {
  static const std::vector<float> kNumbers = [] {
    std::vector<float> numbers(1 << 16);
    for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = DecodeOne<Type>(i);
    return numbers;
  }();
  return kNumbers[bits];
}

template <class Type>
uint16_t Encode(float value) {
  constexpr int kFraction = kFractionBits<Type>;
  constexpr uint16_t kInfinity = (2 * kBias<Type> + 1) << kFraction;
  if (std::isnan(value)) return kInfinity | 1;
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const float size = std::fabs(value);
  if (size == 0.0f) return sign;
  if (std::isinf(size)) return sign | kInfinity;
  const int exponent = std::max(std::ilogb(size), 1 - kBias<Type>);
  // In units of the last place; a carry into the next exponent is right as it is.
  const auto units = static_cast<int>(std::nearbyint(std::ldexp(size, kFraction - exponent)));
  const int bits = ((exponent + kBias<Type> - 1) << kFraction) + units;
  return sign | static_cast<uint16_t>(std::min<int>(bits, kInfinity));
}

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_NUMBERS_H_
