// Attention for bfloat16 on the CPU's matrix instructions, where it has some.
#ifndef KERNELS_ATTENTION_CPU_BF16_H_
#define KERNELS_ATTENTION_CPU_BF16_H_

#include "kernels/attention/problem.h"

namespace kernels::attention {

// Whether this process has the instructions (MatrixIsa) and the problem gains from them.
bool PrefersBf16Cpu(const Problem& problem);

// As ForwardCpu and BackwardCpu, which call them for a checked problem; the instructions must be
// there. False, and then results are worthless: there are numbers that are not finite and that not
// all see, which whole tiles of products would spread.
bool ForwardBf16Cpu(const Problem& problem, const ForwardTensors& tensors);
bool BackwardBf16Cpu(const Problem& problem, const BackwardTensors& tensors);

}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_BF16_H_
