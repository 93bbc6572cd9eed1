// The border between the plan (cpu.cc, compiled once) and the tasks (cpu_*-inl.h, compiled once per
// instruction set).
#ifndef KERNELS_ATTENTION_CPU_TASKS_H_
#define KERNELS_ATTENTION_CPU_TASKS_H_

#include <cstdint>

#include "kernels/attention/cpu_visibility.h"
#include "kernels/attention/problem.h"

namespace kernels::attention {

// Queries and keys of one tile of scores. 64 x 64 floats are 16 KiB, so that the scores and the two
// operands of either product stay in the first-level cache at head_dim 64.
constexpr int64_t kBlockQ = 64;
constexpr int64_t kBlockK = 64;

// Keys of a tile of the forward pass, which has only one tile of scores to keep: the more keys, the
// fewer times the output is loaded and stored.
constexpr int64_t kForwardBlockK = 128;

// Blocks of queries that a task of the forward pass may go through with one copy of each panel of
// keys.
constexpr int64_t kMaxBlocksPerTask = 16;

// Keys whose k and v such a task copies at once: 256 KiB of floats at head_dim 128, in the
// second-level cache.
constexpr int64_t kForwardPanelK = 256;

// Keys whose k, v and gradients the backward pass keeps in the second-level cache at once.
constexpr int64_t kPanelK = 512;

// Rows of tiles start at multiples of 64 bytes: 16 floats.
constexpr int64_t kPadding = 16;

// Rows of kBlockQ numbers, of the accumulation type or wider, that hold the SlopeSums of a block of
// queries (cpu_scores-inl.h).
constexpr int64_t kSlopeRows = 8;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// How the queries that share a key head are cut into blocks of at most kBlockQ rows: parts of
// kBlockQ queries of one head, or all queries of several heads where those are few, as in decoding.
struct QueryBlocks {
  int64_t heads_per_block;
  int64_t head_parts;  // Blocks that it takes for all heads of the group.
  int64_t count;       // Blocks of one (batch, key head).
};

struct ForwardPlan {
  QueryBlocks blocks;
  int64_t blocks_per_task;
  int64_t tasks_per_head;  // Tasks of one (batch, key head).
  SegmentTable segments;
};

// The backward pass splits the keys of each (batch, key head) into chunks, one task each, which
// owns its part of grad_k and grad_v. When one panel holds all keys, the task writes grad_q and
// grad_slopes too. Otherwise it leaves partial sums of them, which a second pass adds up in the
// order of the chunks.
struct BackwardPlan {
  int64_t num_chunks;
  int64_t keys_per_chunk;  // A multiple of kBlockK.
  bool is_whole;           // There is one chunk of at most kPanelK keys.
  // Unless is_whole: [chunk, batch, head, query block, head_dim padded + kSlopeRows, kBlockQ], in
  // the type of the sums: grad_q, transposed, and the SlopeSums.
  void* partial_sums;
  SegmentTable segments;
};

// Code for one instruction set and one dtype.
struct TaskSet {
  // plan.blocks_per_task blocks of queries of one key head.
  void (*forward)(const Problem&, const ForwardTensors&, const ForwardPlan&, int64_t task,
                  void* scratch);
  // delta of one (batch, query).
  void (*delta)(const Problem&, const BackwardTensors&, int64_t task);
  // One chunk of keys of one key head.
  void (*backward_chunk)(const Problem&, const BackwardTensors&, const BackwardPlan&, int64_t task,
                         void* scratch);
  // Adds the partial sums of one block of queries of one head.
  void (*backward_sum)(const Problem&, const BackwardTensors&, const BackwardPlan&, int64_t task,
                       void* scratch);
  // out[i] = 2^in[i] for `count` values, as the softmax computes it.
  void (*exp2)(const float* in, int64_t count, float* out);
  // And tanh(in[i]), as the softcap computes it.
  void (*tanh)(const float* in, int64_t count, float* out);
};

// Numbers of elements, of the accumulation type, that a task needs in `scratch`.
int64_t ForwardScratch(const Problem& problem, const ForwardPlan& plan);
int64_t BackwardScratch(const Problem& problem, const BackwardPlan& plan);

namespace generic {
const TaskSet& Tasks(DType dtype);
}
namespace avx2 {
const TaskSet& Tasks(DType dtype);
}
namespace avx512 {
const TaskSet& Tasks(DType dtype);
}

}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_TASKS_H_
