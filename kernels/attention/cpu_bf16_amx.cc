// Attention's tasks for bfloat16 on AMX. Headers come first, so that their inline functions, which
// the linker may share with other files, are compiled for every CPU.
// GCC 12 takes the undefined operands within its own headers for variables of ours.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/attention/cpu_bf16_tasks.h"

#if defined(__x86_64__)
#pragma GCC optimize("O3")
#pragma GCC target( \
    "amx-tile,amx-bf16,avx512bf16,avx512vbmi2,avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#define KERNELS_ISA amx
#define KERNELS_VECTOR_BYTES 64
#define KERNELS_BF16_AMX 1
#include "kernels/attention/cpu_bf16_tasks-inl.h"
#endif
