#include "kernels/attention/cpu.h"

#include <algorithm>
#include <cmath>

#include "kernels/attention/cpu_bf16.h"
#include "kernels/attention/cpu_run.h"
#include "kernels/attention/cpu_tasks.h"
#include "kernels/native/cpu_isa.h"
#include "kernels/native/parallel.h"

namespace kernels::attention {
namespace {

constexpr int64_t kForwardTasksPerThread = 4;

// Tasks that the backward pass aims for, and the most chunks it splits keys into, since each chunk
// costs memory of the size of q. Fixed, so that results do not depend on the machine.
constexpr int64_t kBackwardTasks = 64;
constexpr int64_t kMaxChunks = 8;
constexpr int64_t kMinKeysPerChunk = kPanelK;

int64_t AccumulatorBytes(DType dtype) { return dtype == DType::kFloat64 ? 8 : 4; }

const TaskSet& SelectTasks(DType dtype) {
#if defined(__x86_64__)
  if (SelectedCpuIsa() == CpuIsa::kAvx512) return avx512::Tasks(dtype);
  if (SelectedCpuIsa() == CpuIsa::kAvx2) return avx2::Tasks(dtype);
#endif
  return generic::Tasks(dtype);
}

ForwardPlan PlanForward(const Problem& p, const Extras& extras) {
  ForwardPlan plan{};
  plan.blocks = CutQueries(p);
  // Large tasks as long as there are enough of them; results are the same for any size.
  const int64_t blocks = p.batch * p.num_kv_heads * plan.blocks.count;
  plan.blocks_per_task =
      std::clamp<int64_t>(blocks / (kForwardTasksPerThread * NumThreads()), 1, kMaxBlocksPerTask);
  plan.tasks_per_head = CeilDiv(plan.blocks.count, plan.blocks_per_task);
  plan.segments = SummarizeSegments(p, extras);
  return plan;
}

BackwardPlan PlanBackward(const Problem& p, const Extras& extras) {
  const int64_t wanted = CeilDiv(kBackwardTasks, std::max<int64_t>(p.batch * p.num_kv_heads, 1));
  const int64_t most = std::min(kMaxChunks, CeilDiv(p.seq_k, kMinKeysPerChunk));
  const int64_t chunks = std::max<int64_t>(std::min(wanted, most), 1);
  BackwardPlan plan{};
  plan.keys_per_chunk = RoundUp(std::max<int64_t>(CeilDiv(p.seq_k, chunks), 1), kBlockK);
  plan.num_chunks = CeilDiv(p.seq_k, plan.keys_per_chunk);
  plan.is_whole = plan.num_chunks == 1 && plan.keys_per_chunk <= kPanelK;
  plan.segments = SummarizeSegments(p, extras);
  return plan;
}

}  // namespace

// Numbers per lane: those of the softmax or lse and delta, and the arrays of QueryLanes.
constexpr int64_t kLaneNumbers = 3 + 6;

int64_t ForwardScratch(const Problem& p, const ForwardPlan& plan) {
  const int64_t padded_d = RoundUp(p.head_dim, kPadding);
  const int64_t shared = (kBlockQ + 2 * kForwardPanelK) * padded_d + kForwardBlockK * kBlockQ;
  return shared + plan.blocks_per_task * (2 * padded_d + kLaneNumbers) * kBlockQ;
}

int64_t BackwardScratch(const Problem& p, const BackwardPlan& plan) {
  const int64_t padded_d = RoundUp(p.head_dim, kPadding);
  const int64_t panel = std::min(plan.keys_per_chunk, kPanelK) * padded_d;
  const int64_t queries = (6 * padded_d + kSlopeRows + kLaneNumbers) * kBlockQ;
  return 4 * panel + queries + 2 * kBlockK * kBlockQ;
}

void ForwardCpu(DType dtype, const Problem& problem, const ForwardTensors& tensors) {
  CheckProblem(problem);
  if (dtype == DType::kBFloat16 && PrefersBf16Cpu(problem) && ForwardBf16Cpu(problem, tensors)) {
    return;
  }
  const TaskSet& tasks = SelectTasks(dtype);
  const ForwardPlan plan = PlanForward(problem, tensors.extras);
  const int64_t num_tasks = problem.batch * problem.num_kv_heads * plan.tasks_per_head;
  const int64_t scratch_bytes = ForwardScratch(problem, plan) * AccumulatorBytes(dtype);
  Run(num_tasks, 2 * ProductOperations(problem), scratch_bytes,
      [&](int64_t task, void* scratch) { tasks.forward(problem, tensors, plan, task, scratch); });
}

// All gradients, grad_slopes for each query.
void BackwardFloatsCpu(DType dtype, const Problem& problem, const BackwardTensors& tensors) {
  const TaskSet& tasks = SelectTasks(dtype);
  const int64_t query_blocks = problem.batch * CeilDiv(problem.seq_q, kBlockQ);
  const int64_t sums = kBlockQ * (RoundUp(problem.head_dim, kPadding) + kSlopeRows);
  const double elements = static_cast<double>(query_blocks) * problem.num_heads * sums;
  const double operations = 5 * ProductOperations(problem);

  BackwardPlan plan = PlanBackward(problem, tensors.extras);
  const int64_t bytes = AccumulatorBytes(dtype);
  Memory partial;
  if (!plan.is_whole) {
    partial = Allocate(plan.num_chunks * static_cast<int64_t>(elements) * bytes);
    plan.partial_sums = partial.get();
  }
  const int64_t scratch_bytes = BackwardScratch(problem, plan) * bytes;

  Run(query_blocks, elements, 0, [&](int64_t task, void*) { tasks.delta(problem, tensors, task); });
  Run(problem.batch * problem.num_kv_heads * plan.num_chunks, operations, scratch_bytes,
      [&](int64_t task, void* scratch) {
        tasks.backward_chunk(problem, tensors, plan, task, scratch);
      });
  if (plan.is_whole) return;
  Run(query_blocks * problem.num_heads, elements * plan.num_chunks, scratch_bytes,
      [&](int64_t task, void* scratch) {
        tasks.backward_sum(problem, tensors, plan, task, scratch);
      });
}

// Leaves the sum over the queries in query 0 and zeros in the others: whoever adds those up gets
// the same bits, in whatever order. Compensated, as of Neumaier.
template <typename T>
void SumOverQueries(const Problem& p, T* grad_slopes) {
  for (int64_t head = 0; head < p.batch * p.num_heads; ++head) {
    T* row = grad_slopes + head * p.seq_q;
    double sum = 0, rest = 0;
    for (int64_t i = 0; i < p.seq_q; ++i) {
      const double next = sum + row[i];
      rest += std::abs(sum) >= std::abs(row[i]) ? sum - next + row[i] : row[i] - next + sum;
      sum = next;
      row[i] = 0;
    }
    if (p.seq_q > 0) row[0] = static_cast<T>(std::isfinite(rest) ? sum + rest : sum);
  }
}

void BackwardCpu(DType dtype, const Problem& problem, const BackwardTensors& tensors) {
  CheckProblem(problem);
  if (!(dtype == DType::kBFloat16 && PrefersBf16Cpu(problem) &&
        BackwardBf16Cpu(problem, tensors))) {
    BackwardFloatsCpu(dtype, problem, tensors);
  }
  if (tensors.grad_slopes == nullptr) return;
  if (dtype == DType::kFloat64) {
    SumOverQueries(problem, static_cast<double*>(tensors.grad_slopes));
  } else {
    SumOverQueries(problem, static_cast<float*>(tensors.grad_slopes));
  }
}

void Exp2Cpu(const float* in, int64_t count, float* out) {
  SelectTasks(DType::kFloat32).exp2(in, count, out);
}

void TanhCpu(const float* in, int64_t count, float* out) {
  SelectTasks(DType::kFloat32).tanh(in, count, out);
}

}  // namespace kernels::attention
