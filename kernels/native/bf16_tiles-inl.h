// Matrix products of bfloat16 with float32 sums, on matrix instructions. Compiled once per engine:
// the including file defines KERNELS_BF16_AMX as 1 (AMX) or 0 (AVX512-BF16) besides what
// simd-inl.h asks for.
//
// Operands are packed into tiles of 1 KiB, which both engines read with full vectors:
//
//   left   16 rows x 32 of depth, row by row
//   right  32 of depth x 16 columns, as 16 rows of 16 pairs: (depth 2i, 2i + 1) of each column
//
// and results are row-major floats. A product is computed in blocks of 2 x 2 tiles: 4 of AMX's 8
// registers for sums and 2 each for operands, so that a block does a multiplication per load.
#ifndef KERNELS_NATIVE_BF16_TILES_INL_H_
#define KERNELS_NATIVE_BF16_TILES_INL_H_

#include "kernels/native/simd-inl.h"

namespace kernels {
namespace KERNELS_ISA {

using Bits16 = uint16_t;  // A bfloat16.

constexpr int64_t kTileSide = 16;
constexpr int64_t kTileDepth = 32;
constexpr int64_t kTileSize = kTileSide * kTileDepth;
constexpr int64_t kBlockSide = 2 * kTileSide;

// out (+)= left right. `columns` counts blocks, `depth` tiles; steps are elements between
// neighbouring tiles.
struct Product {
  const Bits16* left;
  int64_t left_row_step;
  int64_t left_depth_step;
  const Bits16* right;
  int64_t right_depth_step;
  int64_t right_column_step;
  float* out;
  int64_t out_stride;
  int64_t columns;
  int64_t depth;
  bool accumulate;
  // The blocks to compute, numbered row by row.
  int64_t begin_block;
  int64_t end_block;
};

#if KERNELS_BF16_AMX

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t reserved[15] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Makes the tile registers usable by this thread for the time of a task.
class MatrixUnit {
 public:
  MatrixUnit() {
    const TileConfig config;
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  ~MatrixUnit() { asm volatile("tilerelease"); }
  MatrixUnit(const MatrixUnit&) = delete;
  MatrixUnit& operator=(const MatrixUnit&) = delete;
};

// "memory": the compiler must not move reads and writes of tiles across these.
#define KERNELS_TILE_LOAD(tile, address, stride)                                                   \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile::"r"(address), "r"(static_cast<int64_t>(stride)) \
               : "memory")
#define KERNELS_TILE_STORE(tile, address, stride)                     \
  asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(address), \
               "r"(static_cast<int64_t>(stride))                      \
               : "memory")
#define KERNELS_TILE_ZERO(tile) asm volatile("tilezero %%tmm" #tile::: "memory")

// Multiplies the 2 left tiles from `left` on by the 2 right tiles from `right` on and adds to the
// sums. One statement, so that the compiler has nothing to reload in between.
inline void MultiplyTiles(const Bits16* left, int64_t row_step, const Bits16* right,
                          int64_t column_step) {
  asm volatile(
      "tileloadd (%0,%4,1), %%tmm4\n\t"
      "tileloadd (%2,%4,1), %%tmm6\n\t"
      "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\t"
      "tileloadd (%3,%4,1), %%tmm7\n\t"
      "tdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"
      "tileloadd (%1,%4,1), %%tmm5\n\t"
      "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\t"
      "tdpbf16ps %%tmm7, %%tmm5, %%tmm3"
      :
      : "r"(left), "r"(left + row_step), "r"(right), "r"(right + column_step),
        "r"(kTileDepth * static_cast<int64_t>(sizeof(Bits16)))
      : "memory");
}

inline void LoadSums(const float* out, int64_t stride) {
  const int64_t bytes = stride * sizeof(float);
  KERNELS_TILE_LOAD(0, out, bytes);
  KERNELS_TILE_LOAD(1, out + kTileSide, bytes);
  KERNELS_TILE_LOAD(2, out + kTileSide * stride, bytes);
  KERNELS_TILE_LOAD(3, out + kTileSide * stride + kTileSide, bytes);
}
inline void ZeroSums() {
  KERNELS_TILE_ZERO(0);
  KERNELS_TILE_ZERO(1);
  KERNELS_TILE_ZERO(2);
  KERNELS_TILE_ZERO(3);
}
inline void StoreSums(float* out, int64_t stride) {
  const int64_t bytes = stride * sizeof(float);
  KERNELS_TILE_STORE(0, out, bytes);
  KERNELS_TILE_STORE(1, out + kTileSide, bytes);
  KERNELS_TILE_STORE(2, out + kTileSide * stride, bytes);
  KERNELS_TILE_STORE(3, out + kTileSide * stride + kTileSide, bytes);
}

// Products waiting to be computed, in order and piece by piece: between its pieces of vector work a
// task advances the queue, and the CPU, out of order, does both at once.
class ProductQueue {
 public:
  void Push(const Product& product) {
    if (product.begin_block == product.end_block || product.depth == 0) return;
    products_[end_++ % kCapacity] = product;
    remaining_ += (product.end_block - product.begin_block) * product.depth;
    if (end_ == begin_ + 1) BeginBlock();
  }

  bool IsEmpty() const { return begin_ == end_; }

  // The calls of Advance that empty the queue.
  int64_t Remaining() const { return remaining_; }

  // Multiplies 2 tiles by 2 tiles. The queue must not be empty.
  void Advance() {
    Product& p = products_[begin_ % kCapacity];
    if (depth_ == 0) {
      if (p.accumulate) {
        LoadSums(out_, p.out_stride);
      } else {
        ZeroSums();
      }
    }
    MultiplyTiles(left_ + depth_ * p.left_depth_step, p.left_row_step,
                  right_ + depth_ * p.right_depth_step, p.right_column_step);
    --remaining_;
    if (++depth_ < p.depth) return;
    StoreSums(out_, p.out_stride);
    if (++p.begin_block == p.end_block) ++begin_;
    if (!IsEmpty()) BeginBlock();
  }

  void Drain() {
    while (!IsEmpty()) Advance();
  }

 private:
  static constexpr int64_t kCapacity = 8;

  void BeginBlock() {
    const Product& p = products_[begin_ % kCapacity];
    // 32 bits divide faster.
    const uint32_t block = static_cast<uint32_t>(p.begin_block);
    const int64_t row = block / static_cast<uint32_t>(p.columns);
    const int64_t column = p.begin_block - row * p.columns;
    depth_ = 0;
    left_ = p.left + 2 * row * p.left_row_step;
    right_ = p.right + 2 * column * p.right_column_step;
    out_ = p.out + row * kBlockSide * p.out_stride + column * kBlockSide;
  }

  Product products_[kCapacity];
  int64_t begin_ = 0, end_ = 0;
  int64_t remaining_ = 0;
  // The current block of the first product, and how deep it is.
  int64_t depth_ = 0;
  const Bits16* left_ = nullptr;
  const Bits16* right_ = nullptr;
  float* out_ = nullptr;
};

#else

struct MatrixUnit {};

// One block: 4 times 8 rows x 2 vectors of sums, 16 of the 32 registers.
inline void MultiplyBlock(const Product& p, int64_t row, int64_t column) {
  constexpr int kRows = 8;
  const Bits16* right = p.right + 2 * column * p.right_column_step;
  for (int64_t r = 0; r < kBlockSide; r += kRows) {
    const Bits16* left =
        p.left + (2 * row + r / kTileSide) * p.left_row_step + r % kTileSide * kTileDepth;
    float* out = p.out + (row * kBlockSide + r) * p.out_stride + column * kBlockSide;
    __m512 sums[kRows][2];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        sums[i][v] = p.accumulate ? _mm512_load_ps(out + i * p.out_stride + v * kTileSide)
                                  : _mm512_setzero_ps();
      }
    }
    for (int64_t d = 0; d < p.depth; ++d) {
      const Bits16* a = left + d * p.left_depth_step;
      const Bits16* b = right + d * p.right_depth_step;
      for (int64_t pair = 0; pair < kTileDepth / 2; ++pair) {
        const auto b0 = (__m512bh)_mm512_load_si512(b + pair * kTileDepth);
        const auto b1 = (__m512bh)_mm512_load_si512(b + p.right_column_step + pair * kTileDepth);
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
          int32_t both;
          std::memcpy(&both, a + i * kTileDepth + 2 * pair, sizeof(both));
          const auto factor = (__m512bh)_mm512_set1_epi32(both);
          sums[i][0] = _mm512_dpbf16_ps(sums[i][0], factor, b0);
          sums[i][1] = _mm512_dpbf16_ps(sums[i][1], factor, b1);
        }
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        _mm512_store_ps(out + i * p.out_stride + v * kTileSide, sums[i][v]);
      }
    }
  }
}

// As for AMX, but vector work has the same units: nothing is gained by doing both at once.
class ProductQueue {
 public:
  void Push(const Product& p) {
    for (int64_t block = p.begin_block; block < p.end_block; ++block) {
      MultiplyBlock(p, block / p.columns, block % p.columns);
    }
  }
  bool IsEmpty() const { return true; }
  int64_t Remaining() const { return 0; }
  void Advance() {}
  void Drain() {}
};

#endif

}  // namespace KERNELS_ISA
}  // namespace kernels

#endif  // KERNELS_NATIVE_BF16_TILES_INL_H_
