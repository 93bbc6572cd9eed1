// Linear attention on CUDA: the kernels of triton_kernels.py, launched from their cubins.
#ifndef KERNELS_LINEAR_ATTENTION_TRITON_H_
#define KERNELS_LINEAR_ATTENTION_TRITON_H_

#include "kernels/linear_attention/problem.h"
#include "kernels/native/cuda_driver.h"

namespace kernels::linear_attention {

// Both enqueue and return. They throw std::invalid_argument for problems that the kernels do not
// take (float64; a dimension of the heads above 128 or not a multiple of 8), and cuda::Error.
void ForwardTriton(DType dtype, const Problem& problem, const ForwardTensors& tensors,
                   cuda::Queue queue);
void BackwardTriton(DType dtype, const Problem& problem, const BackwardTensors& tensors,
                    cuda::Queue queue);

}  // namespace kernels::linear_attention

#endif  // KERNELS_LINEAR_ATTENTION_TRITON_H_
