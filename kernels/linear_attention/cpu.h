// Linear attention on the CPU, in chunks: quadratic within a chunk, by a state between chunks.
//
// Results do not depend on the number of threads, bit for bit.
//
// Reference: Sun et al., "Retentive Network", 2023, arXiv:2307.08621, section 2.3; Yang et al.,
// "Gated Linear Attention", 2023, arXiv:2312.06635, section 4.
#ifndef KERNELS_LINEAR_ATTENTION_CPU_H_
#define KERNELS_LINEAR_ATTENTION_CPU_H_

#include "kernels/linear_attention/problem.h"

namespace kernels::linear_attention {

// Both throw std::invalid_argument for an ill-formed problem, and std::bad_alloc when scratch
// memory cannot be had. The backward pass holds two states a chunk: about as much memory as q and v
// take.
void ForwardCpu(DType dtype, const Problem& problem, const ForwardTensors& tensors);
void BackwardCpu(DType dtype, const Problem& problem, const BackwardTensors& tensors);

}  // namespace kernels::linear_attention

#endif  // KERNELS_LINEAR_ATTENTION_CPU_H_
