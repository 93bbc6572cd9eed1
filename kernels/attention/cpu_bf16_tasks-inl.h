// The table of tasks of one engine of the bfloat16 path.
#ifndef KERNELS_ATTENTION_CPU_BF16_TASKS_INL_H_
#define KERNELS_ATTENTION_CPU_BF16_TASKS_INL_H_

#include "kernels/attention/cpu_bf16_backward-inl.h"
#include "kernels/attention/cpu_bf16_forward-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

const Bf16TaskSet& Bf16Tasks() {
  static constexpr Bf16TaskSet kTasks = {
      PackKeysTask,    ForwardTask,         PrepareTask,          BackwardTask,
      BackwardSumTask, ForwardScratchBytes, BackwardScratchBytes, sizeof(QueryLanes<float>)};
  return kTasks;
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_BF16_TASKS_INL_H_
