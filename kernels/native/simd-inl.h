// A small vector layer, compiled once per instruction set.
//
// The including file selects the instructions with `#pragma GCC target` and defines
// KERNELS_VECTOR_BYTES (64: AVX-512, 32: AVX2, 16: any CPU) and KERNELS_ISA, the namespace that
// keeps the copies apart: without it the linker could pick the AVX-512 copy of an inline function
// for a machine that has only AVX2. Arithmetic is by GCC's own operators on vector types; only what
// has no operator is written per instruction set.
#ifndef KERNELS_NATIVE_SIMD_INL_H_
#define KERNELS_NATIVE_SIMD_INL_H_

#if !defined(KERNELS_ISA) || !defined(KERNELS_VECTOR_BYTES)
#error "define KERNELS_ISA and KERNELS_VECTOR_BYTES before including this file"
#endif

#include <cmath>
#include <cstdint>
#include <utility>

namespace kernels {
namespace KERNELS_ISA {

constexpr int kVectorBytes = KERNELS_VECTOR_BYTES;

template <typename T>
struct VecOf {
  typedef T Type __attribute__((vector_size(kVectorBytes), may_alias));
};
template <typename T>
using Vec = typename VecOf<T>::Type;

template <typename T>
constexpr int kLanes = kVectorBytes / sizeof(T);

// Memory that these touch is aligned to kVectorBytes.
template <typename T>
inline Vec<T> Load(const T* p) {
  return *reinterpret_cast<const Vec<T>*>(p);
}
template <typename T>
inline void Store(Vec<T> v, T* p) {
  *reinterpret_cast<Vec<T>*>(p) = v;
}
template <typename T>
inline Vec<T> Broadcast(T x) {
  return x - Vec<T>{};
}

// a * b + c, fused where the hardware can.
template <typename V>
inline V MultiplyAdd(V a, V b, V c) {
  return a * b + c;
}
#if KERNELS_VECTOR_BYTES == 64
inline Vec<float> MultiplyAdd(Vec<float> a, Vec<float> b, Vec<float> c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline Vec<double> MultiplyAdd(Vec<double> a, Vec<double> b, Vec<double> c) {
  return _mm512_fmadd_pd(a, b, c);
}
#elif KERNELS_VECTOR_BYTES == 32
inline Vec<float> MultiplyAdd(Vec<float> a, Vec<float> b, Vec<float> c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline Vec<double> MultiplyAdd(Vec<double> a, Vec<double> b, Vec<double> c) {
  return _mm256_fmadd_pd(a, b, c);
}
#endif

// The larger one; b when either is NaN.
template <typename V>
inline V Max(V a, V b) {
  return a > b ? a : b;
}
#if KERNELS_VECTOR_BYTES == 64
inline Vec<float> Max(Vec<float> a, Vec<float> b) { return _mm512_maskz_max_ps(0xffff, a, b); }
#elif KERNELS_VECTOR_BYTES == 32
inline Vec<float> Max(Vec<float> a, Vec<float> b) { return _mm256_max_ps(a, b); }
#endif

// Whether any lane of a mask is set.
template <typename Mask>
inline bool Any(Mask mask) {
  const Vec<int64_t> bits = reinterpret_cast<Vec<int64_t>>(mask);
  int64_t any = 0;
  for (int i = 0; i < kLanes<int64_t>; ++i) any |= bits[i];
  return any != 0;
}

// (2^f - 1) / f for |f| <= 1/2, minimax in relative error of 2^f: 2.6e-9 before rounding.
inline Vec<float> Exp2Slope(Vec<float> f) {
  Vec<float> q = Broadcast(0x1.470b4ap-13f);
  q = MultiplyAdd(q, f, Broadcast(0x1.5f7276p-10f));
  q = MultiplyAdd(q, f, Broadcast(0x1.3b270ep-7f));
  q = MultiplyAdd(q, f, Broadcast(0x1.c6ae72p-5f));
  q = MultiplyAdd(q, f, Broadcast(0x1.ebfbe2p-3f));
  return MultiplyAdd(q, f, Broadcast(0x1.62e432p-1f));
}
inline Vec<float> Exp2Fraction(Vec<float> f) {
  return MultiplyAdd(Exp2Slope(f), f, Broadcast(1.0f));
}

// 2^x for x < 128, within 2 ulp. Below -126 the result is 0, never a subnormal: those would slow
// down every product they enter. NaN stays NaN.
inline Vec<float> Exp2(Vec<float> x) {
#if KERNELS_VECTOR_BYTES == 64
  const __mmask16 keep = _mm512_cmp_ps_mask(x, Broadcast(-126.0f), _CMP_NLT_UQ);
  const Vec<float> n =
      _mm512_maskz_roundscale_ps(keep, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return _mm512_maskz_scalef_ps(keep, Exp2Fraction(x - n), n);
#else
  // Adding 1.5 * 2^23 + 127 leaves the nearest integer, as a biased exponent, in the low bits of
  // the significand.
  const Vec<float> magic = Broadcast(0x1.8000fep23f);
  const Vec<float> shifted = x + magic;
  const Vec<float> fraction = Exp2Fraction(x - (shifted - magic));
  const Vec<float> power =
      reinterpret_cast<Vec<float>>(reinterpret_cast<Vec<int32_t>>(shifted) << 23);
  // A product keeps NaN, which integers would not.
  return x < -126.0f ? Vec<float>{} : fraction * power;
#endif
}

// Double precision is there for gradient checks: exact before fast.
inline Vec<double> Exp2(Vec<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) x[lane] = std::exp2(x[lane]);
  return x;
}

// tanh(x) within 2 ulp: 1 - 2 / (exp(2 |x|) + 1) for large |x|, and for small ones, where that
// cancels, the minimax polynomial of Cephes' tanhf.
inline Vec<float> Tanh(Vec<float> x) {
  using Bits = Vec<int32_t>;
  const Bits sign = reinterpret_cast<Bits>(x) & static_cast<int32_t>(0x80000000u);
  const Vec<float> magnitude = reinterpret_cast<Vec<float>>(reinterpret_cast<Bits>(x) ^ sign);
  // From 9.02 on, tanh rounds to 1. NaN stays NaN.
  const Vec<float> bounded = magnitude > 10.0f ? Broadcast(10.0f) : magnitude;
  const Vec<float> large = 1.0f - 2.0f / (Exp2(bounded * 0x1.715476p1f) + 1.0f);
  const Vec<float> square = magnitude * magnitude;
  Vec<float> q = MultiplyAdd(square, Broadcast(-5.70498872745e-3f), Broadcast(2.06390887954e-2f));
  q = MultiplyAdd(q, square, Broadcast(-5.37397155531e-2f));
  q = MultiplyAdd(q, square, Broadcast(1.33314422036e-1f));
  q = MultiplyAdd(q, square, Broadcast(-3.33332819422e-1f));
  const Vec<float> small = MultiplyAdd(q * square, magnitude, magnitude);
  const Vec<float> either = magnitude < 0.625f ? small : large;
  return reinterpret_cast<Vec<float>>(reinterpret_cast<Bits>(either) | sign);
}

inline Vec<double> Tanh(Vec<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) x[lane] = std::tanh(x[lane]);
  return x;
}

// Interleaves the lanes [kFirst, kFirst + kLanes / 2) of a and b: a0 b0 a1 b1 ...
template <typename T, int kFirst, int... kIndex>
inline Vec<T> Interleave(Vec<T> a, Vec<T> b, std::integer_sequence<int, kIndex...>) {
  return __builtin_shufflevector(a, b, (kFirst + kIndex / 2 + kIndex % 2 * kLanes<T>)...);
}

// Transposes the square of kLanes rows in place. Each of log2(kLanes) rounds is a perfect shuffle
// of the rows, which rotates the bits of (row, column) by one.
template <typename T>
inline void Transpose(Vec<T>* rows) {
  constexpr int kHalf = kLanes<T> / 2;
  constexpr auto kAll = std::make_integer_sequence<int, kLanes<T>>{};
  for (int round = kHalf; round > 0; round /= 2) {
    Vec<T> next[kLanes<T>];
    for (int i = 0; i < kHalf; ++i) {
      next[2 * i] = Interleave<T, 0>(rows[i], rows[i + kHalf], kAll);
      next[2 * i + 1] = Interleave<T, kHalf>(rows[i], rows[i + kHalf], kAll);
    }
    for (int i = 0; i < kLanes<T>; ++i) rows[i] = next[i];
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels

#endif  // KERNELS_NATIVE_SIMD_INL_H_
