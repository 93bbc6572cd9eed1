// Linear attention on CUDA: the kernels of triton_kernels.py, launched from their cubins.
#ifndef KERNELS_LINEAR_ATTENTION_CUDA_H_
#define KERNELS_LINEAR_ATTENTION_CUDA_H_

#include "kernels/linear_attention/problem.h"
#include "kernels/native/cuda_driver.h"

namespace kernels::linear_attention {

// Where a launch goes: the ordinal of a device and a stream of its primary context.
struct Queue {
  int device;
  cuda::Stream stream;
};

// Both enqueue and return. They throw std::invalid_argument for problems that the kernels do not
// take (float64; a dimension of the heads above 128 or not a multiple of 8), and cuda::Error.
void ForwardCuda(DType dtype, const Problem& problem, const ForwardTensors& tensors, Queue queue);
void BackwardCuda(DType dtype, const Problem& problem, const BackwardTensors& tensors, Queue queue);

}  // namespace kernels::linear_attention

#endif  // KERNELS_LINEAR_ATTENTION_CUDA_H_
