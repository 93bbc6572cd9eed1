// What the plans of the CPU's paths share: memory, threads and blocks of queries.
#ifndef KERNELS_ATTENTION_CPU_RUN_H_
#define KERNELS_ATTENTION_CPU_RUN_H_

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/attention/cpu_tasks.h"
#include "kernels/attention/cpu_visibility.h"
#include "kernels/attention/problem.h"
#include "kernels/native/parallel.h"

namespace kernels::attention {

// Below this many floating-point operations a thread does, waking it costs more than it gains.
constexpr double kOperationsPerThread = 2e6;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<char, Free>;

// Memory at a multiple of 64 bytes. Throws std::bad_alloc.
inline Memory Allocate(int64_t bytes) {
  constexpr int64_t kAlignment = 64;
  void* memory = std::aligned_alloc(kAlignment, RoundUp(std::max<int64_t>(bytes, 1), kAlignment));
  if (memory == nullptr) throw std::bad_alloc();
  return Memory(static_cast<char*>(memory));
}

// Operations of one matrix product over all heads.
inline double ProductOperations(const Problem& p) {
  const Span keys = KeysInWindow(p, {p.seq_q / 2, p.seq_q / 2 + 1});
  const double seen = static_cast<double>(std::max<int64_t>(keys.end - keys.begin, 0));
  return 2.0 * p.batch * p.num_heads * p.seq_q * seen * p.head_dim;
}

inline QueryBlocks CutQueries(const Problem& p) {
  const int64_t group = p.num_heads / p.num_kv_heads;
  const int64_t fitting = kBlockQ / std::max<int64_t>(p.seq_q, 1);
  const int64_t heads_per_block = std::clamp<int64_t>(fitting, 1, group);
  const int64_t head_parts = CeilDiv(group, heads_per_block);
  return {heads_per_block, head_parts, head_parts * CeilDiv(p.seq_q, kBlockQ)};
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
  const double useful = 1.0 + operations / kOperationsPerThread;
  const int threads =
      static_cast<int>(std::min<double>({double(NumThreads()), double(num_tasks), useful}));
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

}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_RUN_H_
