// Rows of q, k, v and grad_out on their way into the operand tiles of the bfloat16 path: turned by
// RoPE and padded. Compiled once per engine.
#ifndef KERNELS_ATTENTION_CPU_BF16_STAGE_INL_H_
#define KERNELS_ATTENTION_CPU_BF16_STAGE_INL_H_

#include "kernels/attention/cpu_bf16_tasks.h"
#include "kernels/attention/cpu_queries-inl.h"
#include "kernels/native/bf16_pack-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

// Hands out aligned pieces of memory; with a null base it only counts.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}
  template <typename T>
  T* Take(int64_t count) {
    char* piece = base_ + used_;
    used_ += RoundUp(count * sizeof(T), 64);
    return reinterpret_cast<T*>(piece);
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

// Rows of an array on their way into operand tiles.
struct Staging {
  float* floats;  // [kBlockQ, width], for RoPE.
  Bits16* rows;   // [kBlockSide, width]
};

// Makes row `row` of a stage zero if it is padding, of a negative segment: that may hold anything.
inline void ClearPadding(const int32_t* segments, int64_t index, int64_t width, int64_t row,
                         const Staging& staging) {
  if (segments == nullptr || segments[index] >= 0) return;
  std::memset(staging.rows + row * width, 0, width * sizeof(Bits16));
}

// Calls use(first row, rows) for each kBlockSide rows of keys, staged. `rope`: whether they turn,
// which v does not.
template <typename Use>
void StageKeys(const Problem& p, const Extras& extras, bool rope, int64_t batch, int64_t kv_head,
               int64_t first, int64_t count, const void* array, const Staging& staging,
               const Use& use) {
  const int64_t width = PaddedWidth(p), stride = p.num_kv_heads * p.head_dim;
  for (int64_t r = 0; r < count; r += kBlockSide) {
    const int64_t rows = count - r < kBlockSide ? count - r : kBlockSide;
    if (rope && p.rotary_dim > 0) {
      PackKeys<BFloat16>(p, &extras, batch, kv_head, first + r, rows, array, staging.floats, width);
      StageFloats(staging.floats, rows, width, staging.rows);
    } else {
      const int64_t offset =
          ((batch * p.seq_k + first + r) * p.num_kv_heads + kv_head) * p.head_dim;
      StageRows(static_cast<const Bits16*>(array) + offset, stride, rows, p.head_dim, width,
                staging.rows);
    }
    for (int64_t i = 0; i < rows; ++i) {
      ClearPadding(extras.kv_segments, batch * p.seq_k + first + r + i, width, i, staging);
    }
    use(r, rows);
  }
}

// Calls use(first row, rows) for each kBlockSide rows of a block of queries, staged. `rope`:
// whether they turn, which grad_out does not.
template <typename Use>
void StageQueries(const Problem& p, const Extras& extras, bool rope, const QueryBlock& block,
                  const void* array, const Staging& staging, const Use& use) {
  const int64_t width = PaddedWidth(p), count = NumRows(block);
  const bool rotates = rope && p.rotary_dim > 0;
  if (rotates) PackBlock<BFloat16>(p, &extras, block, array, count, staging.floats, width);
  for (int64_t r = 0; r < count; r += kBlockSide) {
    const int64_t rows = count - r < kBlockSide ? count - r : kBlockSide;
    if (rotates) {
      StageFloats(staging.floats + r * width, rows, width, staging.rows);
    } else {
      for (int64_t i = 0; i < kBlockSide; ++i) {
        const int64_t h = (r + i) / block.count, query = (r + i) % block.count;
        StageRow(static_cast<const Bits16*>(array) + RowOffset(p, block, h) +
                     query * p.num_heads * p.head_dim,
                 i < rows ? p.head_dim : 0, width, staging.rows + i * width);
      }
    }
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t query = block.first + (r + i) % block.count;
      ClearPadding(extras.q_segments, block.batch * p.seq_q + query, width, i, staging);
    }
    use(r, rows);
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_BF16_STAGE_INL_H_
