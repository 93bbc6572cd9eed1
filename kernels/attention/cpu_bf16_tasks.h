// The border between the plan of the bfloat16 path (cpu_bf16.cc, compiled once) and its tasks
// (cpu_bf16_*-inl.h, compiled once per engine).
#ifndef KERNELS_ATTENTION_CPU_BF16_TASKS_H_
#define KERNELS_ATTENTION_CPU_BF16_TASKS_H_

#include <atomic>
#include <cstdint>

#include "kernels/attention/cpu_tasks.h"
#include "kernels/attention/cpu_visibility.h"
#include "kernels/attention/problem.h"

namespace kernels::attention {

// Keys of one tile of scores; queries are kBlockQ. 16 KiB of floats.
constexpr int64_t kTileKeys = 64;

// Heads are padded to whole blocks of the matrix products.
inline int64_t PaddedWidth(const Problem& p) { return RoundUp(p.head_dim, 32); }
inline int64_t KeyTiles(const Problem& p) { return CeilDiv(p.seq_k, kTileKeys); }

// k and v of each (batch, key head) as operands, packed once.
struct PackedKeys {
  uint16_t* k;     // [batch, key head, key / 16, width / 32]: left tiles.
  uint16_t* v;     // [batch, key head, key / 32, width / 16]: left tiles of the transpose.
  float* squares;  // [batch, key head, key / kTileKeys]: the largest |k|^2.
};

struct Bf16ForwardPlan {
  QueryBlocks blocks;
  PackedKeys keys;
  SegmentTable segments;
  std::atomic<bool>* has_infinity;  // Set for an infinity or NaN among the values.
};

// The backward pass splits the keys of each (batch, key head) into chunks, one task each, which go
// through them panel by panel. A task owns its part of grad_k and grad_v. If one panel holds all
// keys it writes grad_q too; otherwise it leaves partial sums, which a second pass adds up in the
// order of the chunks.
struct Bf16BackwardPlan {
  QueryBlocks blocks;
  SegmentTable segments;
  int64_t num_chunks;
  int64_t keys_per_chunk;  // A multiple of keys_per_panel.
  int64_t keys_per_panel;  // A multiple of 2 * kTileKeys.
  bool is_whole;
  // Of each block of queries, packed once: operand tiles of kBlockQ x width, [kBlockQ] numbers and
  // the engine's QueryLanes<float>.
  uint16_t *q, *grad, *q_rows, *grad_rows;
  float *lse, *delta;
  void* lanes;
  // Unless is_whole: [chunk, batch, key head, block, width + kSlopeRows, kBlockQ].
  float* partial;
  std::atomic<bool>* has_infinity;  // Set for an infinity or NaN in q, k, v or grad_out.
};

struct Bf16TaskSet {
  // Packs kTileKeys keys of one key head.
  void (*pack_keys)(const Problem&, const ForwardTensors&, const Bf16ForwardPlan&, int64_t task,
                    void* scratch);
  // One block of queries of one head.
  void (*forward)(const Problem&, const ForwardTensors&, const Bf16ForwardPlan&, int64_t task,
                  void* scratch);
  // Packs one block of queries.
  void (*prepare)(const Problem&, const BackwardTensors&, const Bf16BackwardPlan&, int64_t task,
                  void* scratch);
  // One chunk of keys of one key head.
  void (*backward)(const Problem&, const BackwardTensors&, const Bf16BackwardPlan&, int64_t task,
                   void* scratch);
  // The sum of grad_q's partial sums for one block of queries.
  void (*backward_sum)(const Problem&, const BackwardTensors&, const Bf16BackwardPlan&,
                       int64_t task, void* scratch);
  // Bytes of scratch that any task of either pass needs, and bytes of a block's QueryLanes.
  int64_t (*forward_scratch)(const Problem&);
  int64_t (*backward_scratch)(const Problem&, const Bf16BackwardPlan&);
  int64_t lanes_bytes;
};

namespace amx {
const Bf16TaskSet& Bf16Tasks();
}
namespace avx512_bf16 {
const Bf16TaskSet& Bf16Tasks();
}

}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_BF16_TASKS_H_
