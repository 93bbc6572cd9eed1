// Tile sizes, registers and shared memory of the Hopper forward kernels, and their parameters.
#ifndef KERNELS_ATTENTION_SM90_CONFIG_H_
#define KERNELS_ATTENTION_SM90_CONFIG_H_

#include <cstdint>

#include "kernels/attention/sm90/layout.h"
#include "kernels/attention/sm90/schedule.h"

namespace kernels::attention::sm90 {

struct BFloat16 {};
struct Float16 {};

// A tensor map of the driver, a "CUtensorMap".
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};

// q and out [batch, seq_q, num_heads, head_dim], k and v likewise, as maps of four dimensions,
// innermost first. Boxes have 64 columns and the rows of a tile; those of out 64 rows.
struct ForwardParams {
  TensorMap q;
  TensorMap k;
  TensorMap v;
  TensorMap out;
  float* lse;                 // [batch, num_heads, seq_q]
  const float* alibi_slopes;  // [batch, num_heads], for kernels with ALiBi.
  // For exponentials of two: softmax_scale * log2(e).
  float scale_log2;
  int32_t heads_per_kv_head;
  Sequences sequences;
  TileOrder order;
};

// One producer warpgroup; each consumer warpgroup owns 64 queries. Sizes follow FlashAttention-3,
// but for its 176 keys at head_dim 128 without a window: with 160, out has memory of its own beside
// q and two stages of k and v, so that the next tile's loads never wait for the last one's store.
template <class ElementType, int kHeadDimValue, bool kWindowedValue, bool kAlibiValue>
struct ForwardConfig {
  using Type = ElementType;
  static constexpr int kHeadDim = kHeadDimValue;
  // Without a window only the end of the keys is masked.
  static constexpr bool kWindowed = kWindowedValue;
  static constexpr bool kAlibi = kAlibiValue;
  static_assert(kHeadDim == 64 || kHeadDim == 128);

  static constexpr int kConsumers = kHeadDim == 64 ? 3 : 2;
  static constexpr int kThreads = (kConsumers + 1) * kWarpgroupThreads;
  static constexpr int kBlockQ = kConsumers * kMmaRows;
  static constexpr int kBlockK = kHeadDim == 128 && !kWindowed ? 160 : 128;
  static constexpr int kStages = 2;
  static constexpr int kPanels = kHeadDim / kPanelColumns;

  // A multiprocessor has 64 K registers: 512 a thread for four warpgroups, 504 (in steps of eight)
  // for three, of which each starts with its even share.
  static constexpr int kProducerRegisters = kConsumers == 3 ? 32 : 24;
  static constexpr int kConsumerRegisters = kConsumers == 3 ? 160 : 240;

  // Shared memory, in bytes from a multiple of 1024.
  static constexpr int kTileQBytes = kBlockQ * kHeadDim * kElementBytes;
  static constexpr int kTileKBytes = kBlockK * kHeadDim * kElementBytes;
  static constexpr int kQ = 0;
  static constexpr int kOut = kQ + kTileQBytes;
  static constexpr int kK = kOut + kTileQBytes;
  static constexpr int kV = kK + kStages * kTileKBytes;
  // Barriers of eight bytes, "full" for data that has come, "empty" for space to fill.
  static constexpr int kQFull = kV + kStages * kTileKBytes;
  static constexpr int kQEmpty = kQFull + 8;
  static constexpr int kKFull = kQEmpty + 8;
  static constexpr int kKEmpty = kKFull + 8 * kStages;
  static constexpr int kVFull = kKEmpty + 8 * kStages;
  static constexpr int kVEmpty = kVFull + 8 * kStages;
  static constexpr int kSharedBytes = kVEmpty + 8 * kStages;

  // What one thread block of an H100 or H200 may use.
  static_assert(kSharedBytes <= 227 * 1024);
  static_assert(kTileQBytes % kSwizzleBytes == 0 && kTileKBytes % kSwizzleBytes == 0);
};

// Two neighbours in shared memory.
struct Pair {
  float first;
  float second;
};

// Numbers of named barriers; 0 is that of the whole thread block.
constexpr int kTurnBarrier = 1;      // One a consumer: its turn to issue matrix products.
constexpr int kEpilogueBarrier = 4;  // One a consumer: its threads among themselves.

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_CONFIG_H_
