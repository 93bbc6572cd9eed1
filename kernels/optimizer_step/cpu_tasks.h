// The border between the plan (cpu.cc, compiled once) and the tasks (cpu_*-inl.h, compiled once per
// instruction set).
#ifndef KERNELS_OPTIMIZER_STEP_CPU_TASKS_H_
#define KERNELS_OPTIMIZER_STEP_CPU_TASKS_H_

#include <cstdint>

#include "kernels/optimizer_step/problem.h"

namespace kernels::optimizer_step {

// Updates the weights [begin, end) of a tensor; `begin` is a multiple of kBlockSize, and `end` too
// or the tensor's size.
using Task = void (*)(const Problem&, const Tensor&, int64_t begin, int64_t end);

namespace generic {
Task TaskOf(Rule rule, DType dtype);
}
namespace avx2 {
Task TaskOf(Rule rule, DType dtype);
}
namespace avx512 {
Task TaskOf(Rule rule, DType dtype);
}

}  // namespace kernels::optimizer_step

#endif  // KERNELS_OPTIMIZER_STEP_CPU_TASKS_H_
