// The table of tasks of one instruction set (simd-inl.h).
#ifndef KERNELS_LINEAR_ATTENTION_CPU_TASKS_INL_H_
#define KERNELS_LINEAR_ATTENTION_CPU_TASKS_INL_H_

#include "kernels/linear_attention/cpu_backward-inl.h"

namespace kernels::linear_attention {
namespace KERNELS_ISA {

template <typename In, typename T>
constexpr TaskSet kTasks = {
    ForwardHeadTask<In, T>, UpdateTask<In, T>,       GradUpdateTask<In, T>,    ScanTask<T>,
    GradScanTask<T>,        ForwardChunkTask<In, T>, BackwardChunkTask<In, T>, FinishForwardTask<T>,
    FinishBackwardTask<T>};

const TaskSet& Tasks(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return kTasks<Float16, float>;
    case DType::kBFloat16:
      return kTasks<BFloat16, float>;
    case DType::kFloat64:
      return kTasks<double, double>;
    default:
      return kTasks<float, float>;
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels::linear_attention

#endif  // KERNELS_LINEAR_ATTENTION_CPU_TASKS_INL_H_
