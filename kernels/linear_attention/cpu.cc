#include "kernels/linear_attention/cpu.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/linear_attention/cpu_tasks.h"
#include "kernels/native/cpu_isa.h"
#include "kernels/native/parallel.h"

namespace kernels::linear_attention {
namespace {

constexpr int64_t kAlignment = 64;

// Below this many floating-point operations a thread does, waking it costs more than it gains.
constexpr double kOperationsPerThread = 2e6;

// Heads go through their chunks one after the other, without memory for states, if this many for
// each thread even out the threads' work.
constexpr int64_t kHeadsPerThread = 4;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<char, Free>;

Memory Allocate(int64_t bytes) {
  void* memory = std::aligned_alloc(kAlignment, RoundUp(std::max<int64_t>(bytes, 1), kAlignment));
  if (memory == nullptr) throw std::bad_alloc();
  return Memory(static_cast<char*>(memory));
}

int64_t SumBytes(DType dtype) { return dtype == DType::kFloat64 ? 8 : 4; }

const TaskSet& SelectTasks(DType dtype) {
#if defined(__x86_64__)
  if (SelectedCpuIsa() == CpuIsa::kAvx512) return avx512::Tasks(dtype);
  if (SelectedCpuIsa() == CpuIsa::kAvx2) return avx2::Tasks(dtype);
#endif
  return generic::Tasks(dtype);
}

// Operations of one product of all tokens with a state, or of all chunks with themselves.
double ProductOperations(const Problem& p) {
  const double widest = std::max(std::max(p.key_dim, p.value_dim), kChunk);
  return 2.0 * p.batch * p.num_heads * p.seq_len * std::min(p.key_dim, p.value_dim) * widest;
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

int64_t Rows(const Problem& p) { return p.batch * p.num_heads; }

int64_t SlotElements(const Problem& p) { return Rows(p) * (NumChunks(p) + 1) * StateSize(p); }

void ForwardOverChunks(const TaskSet& tasks, DType dtype, const Problem& p,
                       const ForwardTensors& t) {
  const int64_t scratch_bytes = ForwardScratch(p) * SumBytes(dtype), rows = Rows(p);
  const int64_t chunks = NumChunks(p);
  const double operations = ProductOperations(p);
  const Memory states = Allocate(SlotElements(p) * SumBytes(dtype));
  const Slots slots{states.get(), nullptr, nullptr};
  Run(rows * chunks, operations, scratch_bytes,
      [&](int64_t task, void* scratch) { tasks.update(p, t, slots, task, scratch); });
  Run(rows * kScanParts, SlotElements(p), 0,
      [&](int64_t task, void*) { tasks.scan(p, t.decay, slots, task); });
  Run(rows * chunks, 3 * operations, scratch_bytes,
      [&](int64_t task, void* scratch) { tasks.forward_chunk(p, t, slots, task, scratch); });
  Run(rows, 0, 0, [&](int64_t task, void*) { tasks.finish_forward(p, t, slots, task); });
}

ForwardTensors InputsOf(const BackwardTensors& t) {
  ForwardTensors inputs{};
  inputs.q = t.q;
  inputs.k = t.k;
  inputs.v = t.v;
  inputs.decay = t.decay;
  inputs.initial_kv = t.initial_kv;
  inputs.initial_k_sum = t.initial_k_sum;
  return inputs;
}

}  // namespace

int64_t ForwardScratch(const Problem& p) {
  const int64_t padded_k = RoundUp(p.key_dim, kPadding), padded_v = RoundUp(p.value_dim, kPadding);
  const int64_t lanes = kChunk + 2 * kChunk + kPadding;
  return (3 * padded_k + 2 * padded_v) * kChunk + kChunk * kChunk + lanes + 2 * StateSize(p);
}

int64_t BackwardScratch(const Problem& p) {
  const int64_t padded_k = RoundUp(p.key_dim, kPadding), padded_v = RoundUp(p.value_dim, kPadding);
  const int64_t lanes = kChunk + 2 * kChunk + kPadding;
  return (6 * padded_k + 5 * padded_v) * kChunk + 2 * kChunk * kChunk + lanes + padded_k * padded_v;
}

void ForwardCpu(DType dtype, const Problem& problem, const ForwardTensors& tensors) {
  CheckProblem(problem);
  const TaskSet& tasks = SelectTasks(dtype);
  const int64_t rows = Rows(problem), threads = NumThreads();
  // Either way gives the same bits.
  const bool by_heads =
      rows >= kHeadsPerThread * threads || rows % threads == 0 || NumChunks(problem) < 4;
  if (!by_heads) return ForwardOverChunks(tasks, dtype, problem, tensors);
  Run(rows, 4 * ProductOperations(problem), ForwardScratch(problem) * SumBytes(dtype),
      [&](int64_t task, void* scratch) { tasks.forward_head(problem, tensors, task, scratch); });
}

void BackwardCpu(DType dtype, const Problem& p, const BackwardTensors& t) {
  CheckProblem(p);
  const TaskSet& tasks = SelectTasks(dtype);
  const int64_t rows = Rows(p), chunks = NumChunks(p), bytes = SumBytes(dtype);
  const int64_t scratch_bytes = std::max(ForwardScratch(p), BackwardScratch(p)) * bytes;
  const double operations = ProductOperations(p);
  const ForwardTensors inputs = InputsOf(t);
  const Memory states = Allocate(SlotElements(p) * bytes);
  const Memory gradients = Allocate(SlotElements(p) * bytes);
  const Memory decay = Allocate(rows * chunks * sizeof(double));
  const Slots slots{states.get(), gradients.get(), reinterpret_cast<double*>(decay.get())};

  Run(2 * rows * chunks, 2 * operations, scratch_bytes, [&](int64_t task, void* scratch) {
    if (task % 2 == 0) {
      tasks.update(p, inputs, slots, task / 2, scratch);
    } else {
      tasks.grad_update(p, t, slots, task / 2, scratch);
    }
  });
  Run(2 * rows * kScanParts, 2 * SlotElements(p), 0, [&](int64_t task, void*) {
    (task % 2 == 0 ? tasks.scan : tasks.grad_scan)(p, t.decay, slots, task / 2);
  });
  Run(p.batch * p.num_kv_heads * chunks, 8 * operations, scratch_bytes,
      [&](int64_t task, void* scratch) { tasks.backward_chunk(p, t, slots, task, scratch); });
  Run(rows, 0, 0, [&](int64_t task, void*) { tasks.finish_backward(p, t, slots, task); });
}

}  // namespace kernels::linear_attention
