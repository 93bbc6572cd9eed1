// A step of an optimizer on CUDA: the kernel of triton_kernels.py, launched from cubins, once for
// each tensor.
#ifndef KERNELS_OPTIMIZER_STEP_TRITON_H_
#define KERNELS_OPTIMIZER_STEP_TRITON_H_

#include <cstdint>
#include <vector>

#include "kernels/native/cuda_driver.h"
#include "kernels/optimizer_step/problem.h"

namespace kernels::optimizer_step {

// What depends on the step, in the device's memory, at multiples of 16 bytes; of a Problem its
// `step`, `rate` and `scalars`, which need not be set there.
struct DeviceNumbers {
  int32_t* step;
  float* numbers;  // The rate, and the scalars.
};

// Enqueues and returns. Arrays must start at multiples of 16 bytes. Throws std::invalid_argument
// for an ill-formed problem, and cuda::Error.
void StepTriton(const Problem& problem, const std::vector<Tensor>& tensors, DeviceNumbers numbers,
                cuda::Queue queue);

}  // namespace kernels::optimizer_step

#endif  // KERNELS_OPTIMIZER_STEP_TRITON_H_
