#include "kernels/attention/cpu_bf16.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "kernels/attention/cpu_bf16_tasks.h"
#include "kernels/attention/cpu_run.h"
#include "kernels/native/cpu_isa.h"

namespace kernels::attention {
namespace {

// With fewer queries per key than this, packing keys costs more than fast products gain.
constexpr int64_t kMinRows = 16;

const Bf16TaskSet& SelectBf16Tasks() {
#if defined(__x86_64__)
  if (SelectedMatrixIsa() == MatrixIsa::kAmx) return amx::Bf16Tasks();
  if (SelectedMatrixIsa() == MatrixIsa::kAvx512Bf16) return avx512_bf16::Bf16Tasks();
#endif
  throw std::logic_error("attention: this process has no matrix instructions");
}

// Chunks of keys that the backward pass aims for. Fixed, so that results do not depend on the
// machine; each costs memory of the size of q in float32.
constexpr int64_t kBackwardTasks = 32;

// Elements of k of one panel: with its gradients it takes 14 bytes for each, and all is to stay in
// the second-level cache.
constexpr int64_t kPanelElements = 65536;

Bf16BackwardPlan PlanBackward(const Problem& p, const Extras& extras) {
  Bf16BackwardPlan plan{};
  plan.blocks = CutQueries(p);
  plan.segments = SummarizeSegments(p, extras);
  const int64_t step = 2 * kTileKeys;
  const int64_t panel = std::max(kPanelElements / PaddedWidth(p) / step, int64_t{1}) * step;
  plan.keys_per_panel = std::min(panel, RoundUp(std::max<int64_t>(p.seq_k, 1), step));
  const int64_t panels = std::max<int64_t>(CeilDiv(p.seq_k, plan.keys_per_panel), 1);
  const int64_t wanted = CeilDiv(kBackwardTasks, std::max<int64_t>(p.batch * p.num_kv_heads, 1));
  const int64_t chunks = std::clamp<int64_t>(panels, 1, wanted);
  plan.keys_per_chunk = std::max<int64_t>(CeilDiv(panels, chunks), 1) * plan.keys_per_panel;
  plan.num_chunks = std::max<int64_t>(CeilDiv(p.seq_k, plan.keys_per_chunk), 1);
  plan.is_whole = panels == 1 && p.seq_k > 0;
  return plan;
}

}  // namespace

bool PrefersBf16Cpu(const Problem& p) {
  return SelectedMatrixIsa() != MatrixIsa::kNone &&
         p.seq_q * (p.num_heads / p.num_kv_heads) >= kMinRows;
}

bool ForwardBf16Cpu(const Problem& problem, const ForwardTensors& tensors) {
  const Bf16TaskSet& tasks = SelectBf16Tasks();
  const int64_t kv_heads = problem.batch * problem.num_kv_heads;
  const int64_t key_tiles = kv_heads * KeyTiles(problem);
  const int64_t elements = key_tiles * kTileKeys * PaddedWidth(problem);
  const Memory packed = Allocate(2 * elements * sizeof(uint16_t) + key_tiles * sizeof(float));
  uint16_t* k = reinterpret_cast<uint16_t*>(packed.get());
  std::atomic<bool> has_infinity = false;
  const Bf16ForwardPlan plan = {CutQueries(problem),
                                {k, k + elements, reinterpret_cast<float*>(k + 2 * elements)},
                                SummarizeSegments(problem, tensors.extras),
                                &has_infinity};
  const int64_t scratch_bytes = tasks.forward_scratch(problem);
  Run(key_tiles, static_cast<double>(elements), scratch_bytes,
      [&](int64_t task, void* scratch) { tasks.pack_keys(problem, tensors, plan, task, scratch); });
  if (has_infinity && HidesKeys(problem, tensors.extras)) return false;
  Run(kv_heads * plan.blocks.count, 2 * ProductOperations(problem), scratch_bytes,
      [&](int64_t task, void* scratch) { tasks.forward(problem, tensors, plan, task, scratch); });
  return true;
}

bool BackwardBf16Cpu(const Problem& problem, const BackwardTensors& tensors) {
  const Bf16TaskSet& tasks = SelectBf16Tasks();
  Bf16BackwardPlan plan = PlanBackward(problem, tensors.extras);
  const int64_t heads = problem.batch * problem.num_kv_heads, blocks = heads * plan.blocks.count;
  const int64_t width = PaddedWidth(problem), tiles = blocks * kBlockQ * width;
  const Memory packed = Allocate(4 * tiles * sizeof(uint16_t) +
                                 2 * blocks * kBlockQ * sizeof(float) + blocks * tasks.lanes_bytes);
  plan.q = reinterpret_cast<uint16_t*>(packed.get());
  plan.grad = plan.q + tiles;
  plan.q_rows = plan.grad + tiles;
  plan.grad_rows = plan.q_rows + tiles;
  plan.lse = reinterpret_cast<float*>(plan.grad_rows + tiles);
  plan.delta = plan.lse + blocks * kBlockQ;
  plan.lanes = plan.delta + blocks * kBlockQ;
  std::atomic<bool> has_infinity = false;
  plan.has_infinity = &has_infinity;
  const int64_t sums = blocks * (width + kSlopeRows) * kBlockQ;
  const Memory partial =
      Allocate(plan.is_whole ? 0 : plan.num_chunks * sums * static_cast<int64_t>(sizeof(float)));
  plan.partial = reinterpret_cast<float*>(partial.get());

  const int64_t scratch_bytes = tasks.backward_scratch(problem, plan);
  const double elements = static_cast<double>(tiles);
  Run(blocks, 8 * elements, scratch_bytes,
      [&](int64_t task, void* scratch) { tasks.prepare(problem, tensors, plan, task, scratch); });
  Run(heads * plan.num_chunks, 5 * ProductOperations(problem), scratch_bytes,
      [&](int64_t task, void* scratch) { tasks.backward(problem, tensors, plan, task, scratch); });
  if (has_infinity && HidesKeys(problem, tensors.extras)) return false;
  if (plan.is_whole) return true;
  Run(blocks, elements * plan.num_chunks, scratch_bytes, [&](int64_t task, void* scratch) {
    tasks.backward_sum(problem, tensors, plan, task, scratch);
  });
  return true;
}

}  // namespace kernels::attention
