#include "kernels/optimizer_step/cpu.h"

#include <algorithm>
#include <cstdint>

#include "kernels/native/cpu_isa.h"
#include "kernels/native/default_floats.h"
#include "kernels/native/parallel.h"
#include "kernels/optimizer_step/cpu_tasks.h"

namespace kernels::optimizer_step {
namespace {

// Weights that a task takes, a multiple of kBlockSize: enough for a task to cost nothing and few
// enough for threads to end together.
constexpr int64_t kTaskWeights = 16384;

// Below so many weights for each thread, waking one costs more than it gains.
constexpr int64_t kWeightsPerThread = 8192;

Task SelectTask(Rule rule, DType dtype) {
#if defined(__x86_64__)
  if (SelectedCpuIsa() == CpuIsa::kAvx512) return avx512::TaskOf(rule, dtype);
  if (SelectedCpuIsa() == CpuIsa::kAvx2) return avx2::TaskOf(rule, dtype);
#endif
  return generic::TaskOf(rule, dtype);
}

struct Plan {
  const Problem& problem;
  const std::vector<Tensor>& tensors;
  // Of each tensor, and of the end: the number of the first task.
  std::vector<int64_t> first_tasks;

  void Run(int64_t task) const {
    const auto next = std::upper_bound(first_tasks.begin(), first_tasks.end(), task);
    const size_t index = next - first_tasks.begin() - 1;
    const Tensor& tensor = tensors[index];
    const int64_t begin = (task - first_tasks[index]) * kTaskWeights;
    const DefaultFloats floats;
    SelectTask(problem.rule, tensor.dtype)(problem, tensor, begin,
                                           std::min(begin + kTaskWeights, tensor.size));
  }
};

}  // namespace

void StepCpu(const Problem& problem, const std::vector<Tensor>& tensors) {
  CheckProblem(problem, tensors);
  Plan plan{problem, tensors, {0}};
  int64_t weights = 0;
  for (const Tensor& tensor : tensors) {
    weights += tensor.size;
    plan.first_tasks.push_back(plan.first_tasks.back() + CeilDiv(tensor.size, kTaskWeights));
  }
  const int64_t num_tasks = plan.first_tasks.back();
  if (num_tasks == 0) return;
  const int64_t useful = 1 + weights / kWeightsPerThread;
  const int threads = static_cast<int>(std::min({int64_t{NumThreads()}, num_tasks, useful}));
  ParallelFor(
      num_tasks, threads,
      [](void* opaque, int64_t task, int) { static_cast<const Plan*>(opaque)->Run(task); }, &plan);
}

}  // namespace kernels::optimizer_step
