// The backward tasks of the bfloat16 path: blocks of queries are packed, chunks of keys go through
// them (cpu_bf16_panel-inl.h), and partial sums of grad_q are added up. Compiled once per engine.
#ifndef KERNELS_ATTENTION_CPU_BF16_BACKWARD_INL_H_
#define KERNELS_ATTENTION_CPU_BF16_BACKWARD_INL_H_

#include "kernels/attention/cpu_bf16_panel-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

// lse and delta of a block's queries.
inline void PrepareRows(const Problem& p, const BackwardTensors& t, const PackedBlock& b) {
  for (int64_t r = 0; r < kBlockQ; ++r) {
    b.lse[r] = b.delta[r] = 0;
    if (r >= NumRows(b.block)) continue;
    const int64_t h = r / b.block.count, query = r % b.block.count;
    const int64_t lane = LaneOffset(p, b.block, h) + query;
    const int64_t row = RowOffset(p, b.block, h) + query * p.num_heads * p.head_dim;
    const float lse = static_cast<const float*>(t.lse)[lane];
    // A query that sees no key has lse -inf; with 0 its masked scores still give P = 2^-inf.
    if (lse != -__builtin_inff()) b.lse[r] = lse * static_cast<float>(kLog2E);
    b.delta[r] = DotRows(static_cast<const Bits16*>(t.out) + row,
                         static_cast<const Bits16*>(t.grad_out) + row, p.head_dim);
    if (t.grad_lse != nullptr) b.delta[r] -= static_cast<const float*>(t.grad_lse)[lane];
  }
}

// Packs one block of queries.
inline void PrepareTask(const Problem& p, const BackwardTensors& t, const Bf16BackwardPlan& plan,
                        int64_t task, void* scratch) {
  Arena arena(scratch);
  const Staging staging = LayOutBackward(p, plan, &arena).staging;
  const int64_t width = PaddedWidth(p);
  const PackedBlock b = PackedBlockAt(p, plan, task / plan.blocks.count, task % plan.blocks.count);
  const auto pack = [&](bool rope, const void* array, Bits16* columns, Bits16* rows) {
    std::memset(columns, 0, kBlockQ * width * sizeof(Bits16));
    std::memset(rows, 0, kBlockQ * width * sizeof(Bits16));
    StageQueries(p, t.extras, rope, b.block, array, staging, [&](int64_t r, int64_t) {
      if (!AllFinite(staging.rows, width)) *plan.has_infinity = true;
      PackRight(staging.rows, width, columns + r * kTileDepth, kQueryTiles * kTileSize);
      PackRightRows(staging.rows, width, rows + r * width);
    });
  };
  pack(true, t.q, b.q, b.q_rows);
  pack(false, t.grad_out, b.grad, b.grad_rows);
  PrepareRows(p, t, b);
  DescribeLanes(p, t.extras, b.block, kBlockQ, b.lanes);
}

inline void BackwardTask(const Problem& p, const BackwardTensors& t, const Bf16BackwardPlan& plan,
                         int64_t task, void* scratch) {
  [[maybe_unused]] const MatrixUnit unit{};
  Arena arena(scratch);
  const BackwardMemory memory = LayOutBackward(p, plan, &arena);
  const int64_t chunk = task % plan.num_chunks, head = task / plan.num_chunks;
  const int64_t begin = chunk * plan.keys_per_chunk;
  const int64_t end = begin + plan.keys_per_chunk < p.seq_k ? begin + plan.keys_per_chunk : p.seq_k;
  if (!plan.is_whole) {
    const int64_t size = plan.blocks.count * (PaddedWidth(p) + kSlopeRows) * kBlockQ;
    std::memset(plan.partial + (chunk * p.batch * p.num_kv_heads + head) * size, 0,
                size * sizeof(float));
  }
  for (int64_t key = begin; key < end; key += plan.keys_per_panel) {
    const int64_t panel_end = key + plan.keys_per_panel < end ? key + plan.keys_per_panel : end;
    BackwardPanel(p, t, plan, head, chunk, {key, panel_end}, memory).Run();
  }
}

// Adds up the chunks' parts of grad_q for one block of queries.
inline void BackwardSumTask(const Problem& p, const BackwardTensors& t,
                            const Bf16BackwardPlan& plan, int64_t task, void* scratch) {
  Arena arena(scratch);
  const BackwardMemory memory = LayOutBackward(p, plan, &arena);
  const int64_t width = PaddedWidth(p), size = (width + kSlopeRows) * kBlockQ;
  const int64_t blocks = p.batch * p.num_kv_heads * plan.blocks.count;
  float* sums = plan.partial + task * size;
  for (int64_t chunk = 1; chunk < plan.num_chunks; ++chunk) {
    float* part = plan.partial + (chunk * blocks + task) * size;
    for (int64_t i = 0; i < width * kBlockQ; i += kTileSide) {
      Store(Load(sums + i) + Load(part + i), sums + i);
    }
    AddSlopeSums(SlopeSumsOf(p, part), SlopeSumsOf(p, sums));
  }
  const int64_t head = task / plan.blocks.count;
  const QueryBlock block = BlockAt(p, plan.blocks, head / p.num_kv_heads, head % p.num_kv_heads,
                                   task % plan.blocks.count);
  WriteGradQ(p, t, block, sums, memory.staging.floats);
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_BF16_BACKWARD_INL_H_
