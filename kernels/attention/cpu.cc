#include "kernels/attention/cpu.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>

#include "kernels/attention/cpu_tasks.h"
#include "kernels/native/cpu_isa.h"
#include "kernels/native/parallel.h"

namespace kernels::attention {
namespace {

constexpr int64_t kAlignment = 64;

// Below this many floating-point operations a thread does, waking it costs more than it gains.
constexpr double kOperationsPerThread = 2e6;

constexpr int64_t kForwardTasksPerThread = 8;

// Tasks that the backward pass aims for, and the most chunks it splits keys into, since each chunk
// costs memory of the size of q. Fixed, so that results do not depend on the machine.
constexpr int64_t kBackwardTasks = 64;
constexpr int64_t kMaxChunks = 8;
constexpr int64_t kMinKeysPerChunk = 4 * kBlockK;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<char, Free>;

Memory Allocate(int64_t bytes) {
  void* memory = std::aligned_alloc(kAlignment, RoundUp(std::max<int64_t>(bytes, 1), kAlignment));
  if (memory == nullptr) throw std::bad_alloc();
  return Memory(static_cast<char*>(memory));
}

int64_t AccumulatorBytes(DType dtype) { return dtype == DType::kFloat64 ? 8 : 4; }

const TaskSet& SelectTasks(DType dtype) {
#if defined(__x86_64__)
  if (SelectedCpuIsa() == CpuIsa::kAvx512) return avx512::Tasks(dtype);
  if (SelectedCpuIsa() == CpuIsa::kAvx2) return avx2::Tasks(dtype);
#endif
  return generic::Tasks(dtype);
}

void Check(DType dtype, const Problem& problem) {
  CheckProblem(problem);
  if (dtype == DType::kFloat16) {
    throw std::invalid_argument("attention on CPU takes bfloat16, float32 or float64");
  }
}

// Operations of one matrix product over all heads.
double ProductOperations(const Problem& p) {
  const double scores = static_cast<double>(p.seq_q) * p.seq_k * (p.causal ? 0.5 : 1.0);
  return 2.0 * p.batch * p.num_heads * scores * p.head_dim;
}

int Threads(int64_t num_tasks, double operations) {
  const double useful = 1.0 + operations / kOperationsPerThread;
  return static_cast<int>(std::min<double>({double(NumThreads()), double(num_tasks), useful}));
}

// Runs `body(task, scratch)` for all tasks, with `scratch_bytes` of memory per thread.
template <typename Body>
void Run(int64_t num_tasks, double operations, int64_t scratch_bytes, const Body& body) {
  if (num_tasks == 0) return;
  struct Context {
    const Body& body;
    char* scratch;
    int64_t scratch_bytes;
  };
  const int threads = Threads(num_tasks, operations);
  const Memory scratch = Allocate(scratch_bytes * threads);
  Context context{body, scratch.get(), scratch_bytes};
  ParallelFor(
      num_tasks, threads,
      [](void* opaque, int64_t task, int worker) {
        const Context& c = *static_cast<Context*>(opaque);
        c.body(task, c.scratch + worker * c.scratch_bytes);
      },
      &context);
}

BackwardPlan PlanBackward(const Problem& p) {
  const int64_t wanted = CeilDiv(kBackwardTasks, std::max<int64_t>(p.batch * p.num_kv_heads, 1));
  const int64_t most = std::min(kMaxChunks, CeilDiv(p.seq_k, kMinKeysPerChunk));
  const int64_t chunks = std::max<int64_t>(std::min(wanted, most), 1);
  BackwardPlan plan{};
  plan.keys_per_chunk = RoundUp(std::max<int64_t>(CeilDiv(p.seq_k, chunks), 1), kBlockK);
  plan.num_chunks = CeilDiv(p.seq_k, plan.keys_per_chunk);
  plan.is_whole = plan.num_chunks == 1 && plan.keys_per_chunk <= kPanelK;
  return plan;
}

}  // namespace

int64_t ForwardScratch(const Problem& p, int64_t blocks_per_task) {
  const int64_t padded_d = RoundUp(p.head_dim, kPadding);
  const int64_t shared = (kBlockQ + 2 * kBlockK) * padded_d + kBlockK * kBlockQ;
  return shared + blocks_per_task * (2 * padded_d + 3) * kBlockQ;
}

int64_t BackwardScratch(const Problem& p, const BackwardPlan& plan) {
  const int64_t padded_d = RoundUp(p.head_dim, kPadding);
  const int64_t panel = std::min(plan.keys_per_chunk, kPanelK) * padded_d;
  return 4 * panel + 5 * kBlockQ * padded_d + 2 * (kBlockK + 1) * kBlockQ;
}

void ForwardCpu(DType dtype, const Problem& problem, const ForwardTensors& tensors) {
  Check(dtype, problem);
  const TaskSet& tasks = SelectTasks(dtype);
  const int64_t heads = problem.batch * problem.num_heads;
  const int64_t blocks = CeilDiv(problem.seq_q, kBlockQ);
  // Large tasks as long as there are enough of them; results are the same for any size.
  const int64_t blocks_per_task = std::clamp<int64_t>(
      heads * blocks / (kForwardTasksPerThread * NumThreads()), 1, kMaxBlocksPerTask);
  const int64_t num_tasks = heads * CeilDiv(blocks, blocks_per_task);
  const int64_t scratch_bytes = ForwardScratch(problem, blocks_per_task) * AccumulatorBytes(dtype);
  Run(num_tasks, 2 * ProductOperations(problem), scratch_bytes, [&](int64_t task, void* scratch) {
    tasks.forward(problem, tensors, blocks_per_task, task, scratch);
  });
}

void BackwardCpu(DType dtype, const Problem& problem, const BackwardTensors& tensors) {
  Check(dtype, problem);
  const TaskSet& tasks = SelectTasks(dtype);
  const int64_t query_blocks = problem.batch * CeilDiv(problem.seq_q, kBlockQ);
  const int64_t q_tile = kBlockQ * RoundUp(problem.head_dim, kPadding);
  const double elements = static_cast<double>(query_blocks) * problem.num_heads * q_tile;
  const double operations = 5 * ProductOperations(problem);

  BackwardPlan plan = PlanBackward(problem);
  const int64_t bytes = AccumulatorBytes(dtype);
  Memory partial;
  if (!plan.is_whole) {
    partial = Allocate(plan.num_chunks * static_cast<int64_t>(elements) * bytes);
    plan.partial_grad_q = partial.get();
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

void Exp2Cpu(const float* in, int64_t count, float* out) {
  SelectTasks(DType::kFloat32).exp2(in, count, out);
}

}  // namespace kernels::attention
