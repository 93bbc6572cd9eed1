// Blocks of queries: which they are, how they are packed. Compiled once per instruction set
// (simd-inl.h).
#ifndef KERNELS_ATTENTION_CPU_QUERIES_INL_H_
#define KERNELS_ATTENTION_CPU_QUERIES_INL_H_

#include "kernels/attention/cpu_rope-inl.h"
#include "kernels/attention/cpu_scores-inl.h"
#include "kernels/native/tiles-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

// Rows that a product reads as its left operand.
template <typename T>
struct Rows {
  const T* data;
  int64_t stride;
};

// `count` queries of each of `num_heads` heads that share a key head. Row r is query
// first + r % count of head head + r / count.
struct QueryBlock {
  int64_t batch;
  int64_t head;
  int64_t num_heads;
  int64_t first;
  int64_t count;
};

inline int64_t NumRows(const QueryBlock& block) { return block.num_heads * block.count; }
inline Span Queries(const QueryBlock& block) { return {block.first, block.first + block.count}; }

// Block `index` of those of key head `kv_head`: the heads of one part of the queries come before
// the next part.
inline QueryBlock BlockAt(const Problem& p, const QueryBlocks& blocks, int64_t batch,
                          int64_t kv_head, int64_t index) {
  const int64_t group = p.num_heads / p.num_kv_heads;
  const int64_t head = index % blocks.head_parts * blocks.heads_per_block;
  const int64_t first = index / blocks.head_parts * kBlockQ;
  const int64_t heads_left = group - head, queries_left = p.seq_q - first;
  return {batch, kv_head * group + head,
          heads_left < blocks.heads_per_block ? heads_left : blocks.heads_per_block, first,
          queries_left < kBlockQ ? queries_left : kBlockQ};
}

// Where row 0 of the block's h-th head is in an array [batch, seq_q, num_heads, head_dim].
inline int64_t RowOffset(const Problem& p, const QueryBlock& block, int64_t h) {
  return ((block.batch * p.seq_q + block.first) * p.num_heads + block.head + h) * p.head_dim;
}
// And in an array [batch, num_heads, seq_q].
inline int64_t LaneOffset(const Problem& p, const QueryBlock& block, int64_t h) {
  return (block.batch * p.num_heads + block.head + h) * p.seq_q + block.first;
}

// Where key `first` is in an array [batch, seq_k, num_kv_heads, head_dim].
inline int64_t KeyOffset(const Problem& p, int64_t batch, int64_t kv_head, int64_t first) {
  return ((batch * p.seq_k + first) * p.num_kv_heads + kv_head) * p.head_dim;
}

// Copies the block's rows of q, turned by RoPE, or of grad_out, as they are, into a tile of
// `padded_rows` rows.
template <typename In, typename T>
void PackBlock(const Problem& p, const Extras* rope, const QueryBlock& block, const void* array,
               int64_t padded_rows, T* tile, int64_t stride) {
  for (int64_t h = 0; h < block.num_heads; ++h) {
    T* rows = tile + h * block.count * stride;
    PackRows(static_cast<const In*>(array) + RowOffset(p, block, h), p.num_heads * p.head_dim,
             block.count, p.head_dim, rows, stride, block.count);
    if (rope != nullptr) {
      RotateRows(p, *rope, Turn::kForward, FirstQueryRow(p) + block.first, block.count, rows,
                 stride);
    }
  }
  const int64_t rows = NumRows(block);
  std::memset(tile + rows * stride, 0, (padded_rows - rows) * stride * sizeof(T));
}

// Writes the block's rows of an array from a tile, times `factor`.
template <typename Out, typename T>
void UnpackBlock(const Problem& p, const QueryBlock& block, const T* tile, int64_t stride, T factor,
                 void* array) {
  for (int64_t h = 0; h < block.num_heads; ++h) {
    UnpackRows(tile + h * block.count * stride, stride, block.count, p.head_dim, factor,
               static_cast<Out*>(array) + RowOffset(p, block, h), p.num_heads * p.head_dim);
  }
}

// Writes what each query of the block adds to the gradient of its slope, where that is wanted.
template <typename T>
void WriteGradSlopes(const Problem& p, const BackwardTensors& t, const QueryBlock& block,
                     const double* sums) {
  if (t.grad_slopes == nullptr) return;
  for (int64_t r = 0; r < NumRows(block); ++r) {
    const int64_t at = LaneOffset(p, block, r / block.count) + r % block.count;
    const T grad_lse = t.grad_lse == nullptr ? T{0} : static_cast<const T*>(t.grad_lse)[at];
    static_cast<T*>(t.grad_slopes)[at] = static_cast<T>(SlopeGradient(sums, r, grad_lse));
  }
}

// Where a tile is only partly visible, it is taken apart down to this many keys: some parts need no
// work, or no mask, or only some of the lanes.
constexpr int64_t kSmallestTile = 32;

// The lanes of a block, in whole vectors, outside of which no query sees any of the keys.
template <typename T>
Span LanesThatSee(const Problem& p, const QueryBlock& block, int64_t lanes, Span keys) {
  if (block.num_heads > 1) return {0, lanes};
  const Span queries = QueriesInWindow(p, keys);
  const int64_t begin = queries.begin - block.first;
  const int64_t end = RoundUp(queries.end - block.first, kLanes<T>);
  return {begin < 0 ? 0 : begin / kLanes<T> * kLanes<T>, end < lanes ? end : lanes};
}

template <typename T>
void DescribeLanes(const Problem& p, const Extras& extras, const QueryBlock& block, int64_t lanes,
                   QueryLanes<T>* described) {
  const int64_t rows = NumRows(block);
  for (int64_t r = 0; r < rows; ++r) {
    SetQueryLane(p, extras, block.batch, block.head + r / block.count,
                 block.first + r % block.count, r, described);
  }
  HideQueryLanes(rows, lanes, described);
}

// Copies rows of k, turned by RoPE, or of v, from key `first` on, into a tile. Even for a single
// query: a plain copy waits for many distant rows at once, a product for a few.
template <typename In, typename T>
void PackKeys(const Problem& p, const Extras* rope, int64_t batch, int64_t kv_head, int64_t first,
              int64_t count, const void* array, T* tile, int64_t stride) {
  PackRows(static_cast<const In*>(array) + KeyOffset(p, batch, kv_head, first),
           p.num_kv_heads * p.head_dim, count, p.head_dim, tile, stride, count);
  if (rope != nullptr) {
    RotateRows(p, *rope, Turn::kForward, FirstKeyRow(p) + first, count, tile, stride);
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_QUERIES_INL_H_
