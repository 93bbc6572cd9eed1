// A step of an optimizer on the CPU: all that a weight needs is read once and written once, and
// all tensors are one job for the threads.
//
// Results are those of the rules in //optim computed in float32, each operation rounded by itself,
// bit for bit, whatever the instruction set, the number of threads, the alignment of the arrays,
// and the caller's rounding mode and treatment of subnormal numbers.
#ifndef KERNELS_OPTIMIZER_STEP_CPU_H_
#define KERNELS_OPTIMIZER_STEP_CPU_H_

#include <vector>

#include "kernels/optimizer_step/problem.h"

namespace kernels::optimizer_step {

// Throws std::invalid_argument for an ill-formed problem; then nothing was changed.
void StepCpu(const Problem& problem, const std::vector<Tensor>& tensors);

}  // namespace kernels::optimizer_step

#endif  // KERNELS_OPTIMIZER_STEP_CPU_H_
