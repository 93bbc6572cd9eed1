// The table of tasks of one instruction set (simd-inl.h).
#ifndef KERNELS_ATTENTION_CPU_TASKS_INL_H_
#define KERNELS_ATTENTION_CPU_TASKS_INL_H_

#include "kernels/attention/cpu_backward-inl.h"
#include "kernels/attention/cpu_forward-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

template <Vec<float> (*kFunction)(Vec<float>)>
void ElementwiseTask(const float* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += kLanes<float>) {
    alignas(kVectorBytes) float lanes[kLanes<float>] = {};
    const int64_t rest = count - i < kLanes<float> ? count - i : kLanes<float>;
    std::memcpy(lanes, in + i, rest * sizeof(float));
    Store(kFunction(Load(lanes)), lanes);
    std::memcpy(out + i, lanes, rest * sizeof(float));
  }
}

template <typename In, typename T>
constexpr TaskSet kTasks = {ForwardTask<In, T>,     DeltaTask<In, T>,      BackwardChunkTask<In, T>,
                            BackwardSumTask<In, T>, ElementwiseTask<Exp2>, ElementwiseTask<Tanh>};

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
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_TASKS_INL_H_
