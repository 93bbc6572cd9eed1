// Fused attention on the CPU: FlashAttention's tiling with an online softmax.
//
// Results do not depend on the number of threads, bit for bit.
//
// Reference: Dao, "FlashAttention-2", 2023, arXiv:2307.08691.
#ifndef KERNELS_ATTENTION_CPU_H_
#define KERNELS_ATTENTION_CPU_H_

#include <cstdint>

#include "kernels/attention/problem.h"

namespace kernels::attention {

// Both throw std::invalid_argument for an ill-formed problem and std::bad_alloc when scratch memory
// cannot be had.
void ForwardCpu(DType dtype, const Problem& problem, const ForwardTensors& tensors);
void BackwardCpu(DType dtype, const Problem& problem, const BackwardTensors& tensors);

// out[i] = 2^in[i], as the softmax computes it, and tanh(in[i]), as the softcap does: here so that
// their accuracy can be tested.
void Exp2Cpu(const float* in, int64_t count, float* out);
void TanhCpu(const float* in, int64_t count, float* out);

}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_H_
