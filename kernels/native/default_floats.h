// Floating-point arithmetic as IEEE 754 has it by default, on a thread that somebody else set up.
#ifndef KERNELS_NATIVE_DEFAULT_FLOATS_H_
#define KERNELS_NATIVE_DEFAULT_FLOATS_H_

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace kernels {

// While one lives, its thread computes as IEEE 754 does by default, which results that are the same
// everywhere are made of: PyTorch's and XLA's threads may flush subnormal numbers to zero.
class DefaultFloats {
 public:
#if defined(__x86_64__)
  DefaultFloats() : previous_(_mm_getcsr()) { _mm_setcsr(kDefaultControl); }
  ~DefaultFloats() { _mm_setcsr(previous_); }

 private:
  // All exceptions masked, to nearest, subnormal numbers kept.
  static constexpr unsigned kDefaultControl = 0x1f80;
  const unsigned previous_;
#endif
};

}  // namespace kernels

#endif  // KERNELS_NATIVE_DEFAULT_FLOATS_H_
