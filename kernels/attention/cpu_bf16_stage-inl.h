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

// Calls use(first row, rows) for each kBlockSide rows of keys, staged; `rope`: null for v.
template <typename Use>
void StageKeys(const Problem& p, const Extras* rope, int64_t batch, int64_t kv_head, int64_t first,
               int64_t count, const void* array, const Staging& staging, const Use& use) {
  const int64_t width = PaddedWidth(p), stride = p.num_kv_heads * p.head_dim;
  for (int64_t r = 0; r < count; r += kBlockSide) {
    const int64_t rows = count - r < kBlockSide ? count - r : kBlockSide;
    if (rope != nullptr && p.rotary_dim > 0) {
      PackKeys<BFloat16>(p, rope, batch, kv_head, first + r, rows, array, staging.floats, width);
      StageFloats(staging.floats, rows, width, staging.rows);
    } else {
      const int64_t offset =
          ((batch * p.seq_k + first + r) * p.num_kv_heads + kv_head) * p.head_dim;
      StageRows(static_cast<const Bits16*>(array) + offset, stride, rows, p.head_dim, width,
                staging.rows);
    }
    use(r, rows);
  }
}

// Calls use(first row, rows) for each kBlockSide rows of a block of queries, staged; `rope`: null
// for grad_out.
template <typename Use>
void StageQueries(const Problem& p, const Extras* rope, const QueryBlock& block, const void* array,
                  const Staging& staging, const Use& use) {
  const int64_t width = PaddedWidth(p), count = NumRows(block);
  const bool rotates = rope != nullptr && p.rotary_dim > 0;
  if (rotates) PackBlock<BFloat16>(p, rope, block, array, count, staging.floats, width);
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
    use(r, rows);
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_BF16_STAGE_INL_H_
