// Quantization's tasks for any CPU: 16-byte vectors.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/quantize/cpu_tasks.h"

#pragma GCC optimize("O3")
#define KERNELS_ISA generic
#define KERNELS_VECTOR_BYTES 16
#include "kernels/quantize/cpu_tasks-inl.h"
