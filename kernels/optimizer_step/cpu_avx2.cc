// The tasks for AVX2. Headers come first, so that their inline functions, which the
// linker may share with other files, are compiled for every CPU.
#include <immintrin.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/optimizer_step/cpu_tasks.h"

#if defined(__x86_64__)
#pragma GCC optimize("O3")
#pragma GCC target("avx2,fma,prfchw")
#define KERNELS_ISA avx2
#define KERNELS_VECTOR_BYTES 32
#include "kernels/optimizer_step/cpu_tasks-inl.h"
#endif
