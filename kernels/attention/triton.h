// Fused attention on CUDA: the kernels of triton_kernels.py, launched from their cubins.
#ifndef KERNELS_ATTENTION_TRITON_H_
#define KERNELS_ATTENTION_TRITON_H_

#include "kernels/attention/problem.h"
#include "kernels/native/cuda_driver.h"

namespace kernels::attention {

// Both enqueue and return. They throw std::invalid_argument for problems that the kernels do not
// take (float64; head_dim above 256 or not a multiple of 8; backward with RoPE but no rotated_q and
// rotated_k), and cuda::Error.
void ForwardTriton(DType dtype, const Problem& problem, const ForwardTensors& tensors,
                   cuda::Queue queue);
void BackwardTriton(DType dtype, const Problem& problem, const BackwardTensors& tensors,
                    cuda::Queue queue);

// The part of BackwardTriton that leaves out grad_k and grad_v, without RoPE: writes delta first.
void BackwardQueriesTriton(DType dtype, const Problem& problem, const BackwardTensors& tensors,
                           cuda::Queue queue);

}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_TRITON_H_
