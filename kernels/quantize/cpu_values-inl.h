// Vectors of float32 from and to arrays of any alignment. Compiled once per instruction set
// (simd-inl.h).
#ifndef KERNELS_QUANTIZE_CPU_VALUES_INL_H_
#define KERNELS_QUANTIZE_CPU_VALUES_INL_H_

#include "kernels/native/simd-inl.h"
#include "kernels/quantize/problem.h"

namespace kernels::quantize {
namespace KERNELS_ISA {

using ::kernels::KERNELS_ISA::Broadcast;
using ::kernels::KERNELS_ISA::kLanes;
using ::kernels::KERNELS_ISA::kVectorBytes;
using ::kernels::KERNELS_ISA::Vec;

using Floats = Vec<float>;
using Ints = Vec<int32_t>;
using Words = Vec<uint32_t>;

constexpr int kWidth = kLanes<float>;

// Of values.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// Of float32.
constexpr int kBias = 127, kMantissa = 23;
constexpr int32_t kSign = INT32_MIN, kInfinity = 0x7f800000;

inline Floats FloatsOf(Ints bits) { return reinterpret_cast<Floats>(bits); }
inline Ints BitsOf(Floats x) { return reinterpret_cast<Ints>(x); }
inline Floats ToFloats(Ints x) { return __builtin_convertvector(x, Floats); }

template <typename V>
inline V LoadAny(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
template <typename V>
inline void StoreAny(V v, void* p) {
  std::memcpy(p, &v, sizeof(v));
}

// The lane kStep further on comes first.
template <int kStep, typename V, int... kIndex>
inline V Rotate(V x, std::integer_sequence<int, kIndex...>) {
  return __builtin_shufflevector(x, x, (kIndex + kStep)...);
}

template <typename T, int kStep = kLanes<T> / 2>
inline T LargestLane(Vec<T> x) {
  if constexpr (kStep == 0) {
    return x[0];
  } else {
    const Vec<T> other = Rotate<kStep>(x, std::make_integer_sequence<int, kLanes<T>>{});
    return LargestLane<T, kStep / 2>(other > x ? other : x);
  }
}

// How far ahead of itself a loop asks for memory, in bytes. The processor's own prefetching stops
// at each page of 4 KiB, and stores have none that asks for the right to write: with it they are
// twice as fast on the machine that this was measured on (Sapphire Rapids).
constexpr int64_t kAhead = 2048;

// Asks for the lines of `count` values at `p`, kAhead from there.
template <int kForWriting, typename T>
inline void Prefetch(const T* p, int64_t count = kWidth) {
  constexpr int64_t kLine = 64;
  // As a number, since it may be beyond the array.
  const uintptr_t ahead = reinterpret_cast<uintptr_t>(p) + kAhead;
  for (int64_t i = 0; i < count * int64_t{sizeof(T)}; i += kLine) {
    __builtin_prefetch(reinterpret_cast<const void*>(ahead + i), kForWriting);
  }
}

#if KERNELS_VECTOR_BYTES == 64
// Instructions that zero other lanes do not depend on what was in the register, of which the
// compiler would warn.
constexpr __mmask16 kAllLanes = 0xffff;
#endif

// Small integers as large ones, and the low parts of large ones. GCC has no good code of its own.
inline Ints WidenBytes(const uint8_t* p) {
#if KERNELS_VECTOR_BYTES == 64
  return reinterpret_cast<Ints>(_mm512_maskz_cvtepi8_epi32(kAllLanes, LoadAny<__m128i>(p)));
#elif KERNELS_VECTOR_BYTES == 32
  return reinterpret_cast<Ints>(_mm256_cvtepi8_epi32(_mm_loadu_si64(p)));
#else
  Ints result;
  for (int lane = 0; lane < kWidth; ++lane) result[lane] = static_cast<int8_t>(p[lane]);
  return result;
#endif
}

inline Ints WidenHalves(const void* p) {
#if KERNELS_VECTOR_BYTES == 64
  return reinterpret_cast<Ints>(_mm512_maskz_cvtepu16_epi32(kAllLanes, LoadAny<__m256i>(p)));
#elif KERNELS_VECTOR_BYTES == 32
  return reinterpret_cast<Ints>(_mm256_cvtepu16_epi32(LoadAny<__m128i>(p)));
#else
  uint16_t halves[kWidth];
  std::memcpy(halves, p, sizeof(halves));
  Ints result;
  for (int lane = 0; lane < kWidth; ++lane) result[lane] = halves[lane];
  return result;
#endif
}

// Of integers from -128 to 127.
inline void StoreBytes(Ints x, uint8_t* p) {
#if KERNELS_VECTOR_BYTES == 64
  StoreAny(_mm512_maskz_cvtepi32_epi8(kAllLanes, reinterpret_cast<__m512i>(x)), p);
#elif KERNELS_VECTOR_BYTES == 32
  const __m256i wide = reinterpret_cast<__m256i>(x);
  const __m128i halves =
      _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  _mm_storeu_si64(p, _mm_packs_epi16(halves, halves));
#else
  for (int lane = 0; lane < kWidth; ++lane) p[lane] = static_cast<uint8_t>(x[lane]);
#endif
}

// Of integers from 0 to 65535.
inline void StoreHalves(Ints x, void* p) {
#if KERNELS_VECTOR_BYTES == 64
  StoreAny(_mm512_maskz_cvtepi32_epi16(kAllLanes, reinterpret_cast<__m512i>(x)), p);
#elif KERNELS_VECTOR_BYTES == 32
  const __m256i wide = reinterpret_cast<__m256i>(x);
  StoreAny(_mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1)), p);
#else
  uint16_t halves[kWidth];
  for (int lane = 0; lane < kWidth; ++lane) halves[lane] = static_cast<uint16_t>(x[lane]);
  std::memcpy(p, halves, sizeof(halves));
#endif
}

inline Floats LoadValues(const float* p) { return LoadAny<Floats>(p); }

// Values by their bits.
inline Floats ValuesOf(Ints bits, float) { return FloatsOf(bits); }

inline Floats ValuesOf(Ints half, BFloat16) { return FloatsOf(half << 16); }

inline Floats ValuesOf(Ints half, Float16) {
  const Ints magnitude = (half & 0x7fff) << 13;
  // The exponent's bias grows by 112; infinity and NaN have all its bits set.
  const Ints special = magnitude >= 0x0f800000 ? Ints{} + kInfinity : Ints{};
  const Ints normal = (magnitude + 0x38000000) | special;
  const Ints subnormal = BitsOf(FloatsOf(magnitude + 0x38800000) - 0x1p-14f);
  return FloatsOf((magnitude < 0x00800000 ? subnormal : normal) | ((half & 0x8000) << 16));
}

inline Floats LoadValues(const BFloat16* p) { return ValuesOf(WidenHalves(p), *p); }
inline Floats LoadValues(const Float16* p) { return ValuesOf(WidenHalves(p), *p); }

// These two round to nearest, ties to even; a NaN stays a NaN.
inline void StoreValues(Floats x, float* p) { StoreAny(x, p); }

inline void StoreValues(Floats x, BFloat16* p) {
  const Ints bits = BitsOf(x);
  const Words rounded = reinterpret_cast<Words>(bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Words cut = reinterpret_cast<Words>(bits) >> 16;
  const Ints is_nan = (bits & ~kSign) > kInfinity;
  StoreHalves(is_nan ? reinterpret_cast<Ints>(cut | 0x40) : reinterpret_cast<Ints>(rounded), p);
}

// Subnormal halves, below 2^-14, are what an addition of 0.5 leaves in the low bits.
inline void StoreValues(Floats x, Float16* p) {
  const Ints bits = BitsOf(x), magnitude = bits & ~kSign;
  const Ints normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - 0x38000000) >> 13;
  const Ints subnormal = BitsOf(FloatsOf(magnitude) + 0.5f) - 0x3f000000;
  Ints half = magnitude < 0x38800000 ? subnormal : normal;
  // From 65520 on, halfway to what would come next, it is infinity.
  half = magnitude >= 0x477ff000 ? Ints{} + 0x7c00 : half;
  half = magnitude > kInfinity ? Ints{} + 0x7e00 : half;
  StoreHalves(half | ((bits >> 16) & 0x8000), p);
}

}  // namespace KERNELS_ISA
}  // namespace kernels::quantize

#endif  // KERNELS_QUANTIZE_CPU_VALUES_INL_H_
