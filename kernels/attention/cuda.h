// Attention for Hopper (H100, H200), warp-specialised: the kernels of cuda.cu, launched.
#ifndef KERNELS_ATTENTION_CUDA_H_
#define KERNELS_ATTENTION_CUDA_H_

#include "kernels/attention/problem.h"
#include "kernels/native/cuda_driver.h"

namespace kernels::attention {

// Whether the functions below take it: float16 or bfloat16, head_dim 64 or 128, any heads, lengths
// and window, ALiBi; without softcap, dropout, RoPE or segments, with a positive scale, and no size
// 0.
bool ServedByCuda(DType dtype, const Problem& problem, const Extras& extras);

// Enqueues and returns. out and lse mean what they mean everywhere: the backward kernels of Triton
// take them. Throws std::invalid_argument for what is not served, and cuda::Error, also where the
// device is not of compute capability 9.0.
void ForwardCuda(DType dtype, const Problem& problem, const ForwardTensors& tensors,
                 cuda::Queue queue);

// Enqueues the gradients of keys and values alone, grad_k and grad_v, from lse and delta; those of
// queries and slopes, and delta before, are left to Triton's kernels. Throws as ForwardCuda.
void BackwardKeysCuda(DType dtype, const Problem& problem, const BackwardTensors& tensors,
                      cuda::Queue queue);

// All gradients: delta, grad_q and grad_slopes by Triton's kernels, grad_k and grad_v by ours.
void BackwardCuda(DType dtype, const Problem& problem, const BackwardTensors& tensors,
                  cuda::Queue queue);

}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CUDA_H_
