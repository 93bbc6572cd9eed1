// The border between the plan (cpu.cc, compiled once) and the tasks (cpu_*-inl.h, compiled once per
// instruction set).
//
// A state is [key_dim padded, value_dim padded] and, after it, k_sum [key_dim padded]. The state
// before each chunk comes from a scan over what each chunk adds:
//
//     slot[c + 1] = decay^n slot[c] + update[c]         slot[0]: the initial state
//
// and its gradient from the like scan from the end. So all chunks are independent of each other
// but for the scans, which are cheap.
#ifndef KERNELS_LINEAR_ATTENTION_CPU_TASKS_H_
#define KERNELS_LINEAR_ATTENTION_CPU_TASKS_H_

#include <cstdint>

#include "kernels/linear_attention/problem.h"

namespace kernels::linear_attention {

// Tokens of a chunk. 64 x 64 floats are 16 KiB, so that a tile and the two operands of its product
// stay in the first-level cache at head_dim 64. As CHUNK in contract.py.
constexpr int64_t kChunk = 64;

// Rows of tiles start at multiples of 64 bytes: 16 floats.
constexpr int64_t kPadding = 16;

// Parts that a scan of one head is split into: they share nothing.
constexpr int64_t kScanParts = 4;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// At least one: no tokens are one empty chunk.
inline int64_t NumChunks(const Problem& p) {
  return p.seq_len == 0 ? 1 : CeilDiv(p.seq_len, kChunk);
}

// Elements of a state.
inline int64_t StateSize(const Problem& p) {
  return RoundUp(p.key_dim, kPadding) * (RoundUp(p.value_dim, kPadding) + 1);
}

// Elements, of the type of the sums, that a task needs in `scratch`.
int64_t ForwardScratch(const Problem& problem);
int64_t BackwardScratch(const Problem& problem);

// Memory of the backward pass, and of the forward pass over chunks in parallel.
struct Slots {
  void* states;     // [batch, num_heads, num_chunks + 1, state], in the type of the sums.
  void* gradients;  // As states.
  double* decay;    // [batch, num_heads, num_chunks]: parts of decay * grad_decay.
};

// Code for one instruction set and one dtype.
struct TaskSet {
  // All of one head of one batch row, chunk after chunk.
  void (*forward_head)(const Problem&, const ForwardTensors&, int64_t task, void* scratch);

  // What one chunk of one head adds to the state, and to its gradient.
  void (*update)(const Problem&, const ForwardTensors&, const Slots&, int64_t task, void* scratch);
  void (*grad_update)(const Problem&, const BackwardTensors&, const Slots&, int64_t task,
                      void* scratch);

  // One part of the scan of one head: of the states or of their gradients.
  void (*scan)(const Problem&, const void* decay, const Slots&, int64_t task);
  void (*grad_scan)(const Problem&, const void* decay, const Slots&, int64_t task);

  // One chunk of one head.
  void (*forward_chunk)(const Problem&, const ForwardTensors&, const Slots&, int64_t task,
                        void* scratch);
  // One chunk of one key head, with all its query heads.
  void (*backward_chunk)(const Problem&, const BackwardTensors&, const Slots&, int64_t task,
                         void* scratch);

  // What is left of one head: its final state, or the gradients of its decay and initial state.
  void (*finish_forward)(const Problem&, const ForwardTensors&, const Slots&, int64_t task);
  void (*finish_backward)(const Problem&, const BackwardTensors&, const Slots&, int64_t task);
};

namespace generic {
const TaskSet& Tasks(DType dtype);
}
namespace avx2 {
const TaskSet& Tasks(DType dtype);
}
namespace avx512 {
const TaskSet& Tasks(DType dtype);
}

}  // namespace kernels::linear_attention

#endif  // KERNELS_LINEAR_ATTENTION_CPU_TASKS_H_
