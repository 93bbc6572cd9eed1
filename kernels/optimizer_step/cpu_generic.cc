// The tasks for any CPU: 16-byte vectors.
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/optimizer_step/cpu_tasks.h"

#pragma GCC optimize("O3")
#define KERNELS_ISA generic
#define KERNELS_VECTOR_BYTES 16
#include "kernels/optimizer_step/cpu_tasks-inl.h"
