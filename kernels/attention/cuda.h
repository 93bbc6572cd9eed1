// Fused attention on CUDA: the kernels of triton_kernels.py, launched from their cubins.
#ifndef KERNELS_ATTENTION_CUDA_H_
#define KERNELS_ATTENTION_CUDA_H_

#include "kernels/attention/problem.h"
#include "kernels/native/cuda_driver.h"

namespace kernels::attention {

// Where a launch goes: the ordinal of a device and a stream of its primary context.
struct Queue {
  int device;
  cuda::Stream stream;
};

// Both enqueue and return. They throw std::invalid_argument for problems that the kernels do not
// take (float64; head_dim above 256 or not a multiple of 8; backward with RoPE but no rotated_q and
// rotated_k), and cuda::Error.
void ForwardCuda(DType dtype, const Problem& problem, const ForwardTensors& tensors, Queue queue);
void BackwardCuda(DType dtype, const Problem& problem, const BackwardTensors& tensors, Queue queue);

// The part of BackwardCuda that leaves out grad_k and grad_v, without RoPE: writes delta first.
void BackwardQueriesCuda(DType dtype, const Problem& problem, const BackwardTensors& tensors,
                         Queue queue);

}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CUDA_H_
