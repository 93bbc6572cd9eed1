// Tile sizes, shared memory and parameters of the Hopper kernels for the gradients of keys and
// values.
#ifndef KERNELS_ATTENTION_SM90_KEYS_CONFIG_H_
#define KERNELS_ATTENTION_SM90_KEYS_CONFIG_H_

#include <cstdint>

#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/layout.h"
#include "kernels/attention/sm90/schedule.h"

namespace kernels::attention::sm90 {

// As of ForwardParams. Boxes of q and grad_out have the rows of a tile of queries, those of k and v
// the rows of a tile of keys, those of grad_k and grad_v 64 rows.
struct KeysParams {
  TensorMap q;
  TensorMap k;
  TensorMap v;
  TensorMap grad_out;
  TensorMap grad_k;
  TensorMap grad_v;
  const float* lse;           // [batch, num_heads, seq_q]
  const float* delta;         // [batch, num_heads, seq_q]
  const float* alibi_slopes;  // [batch, num_heads], for kernels with ALiBi.
  float softmax_scale;
  float scale_log2;  // softmax_scale * log2(e)
  int32_t heads_per_kv_head;
  // Keys take the part of queries: see Transposed.
  Sequences sequences;
  TileOrder order;
};

// Each of two consumer warpgroups owns 64 keys; both see all tiles of queries.
template <class ElementType, int kHeadDimValue, bool kWindowedValue, bool kAlibiValue>
struct KeysConfig {
  using Type = ElementType;
  static constexpr int kHeadDim = kHeadDimValue;
  static constexpr bool kWindowed = kWindowedValue;
  static constexpr bool kAlibi = kAlibiValue;
  static_assert(kHeadDim == 64 || kHeadDim == 128);

  static constexpr int kConsumers = 2;
  static constexpr int kThreads = (kConsumers + 1) * kWarpgroupThreads;
  static constexpr int kBlockK = kConsumers * kMmaRows;
  static constexpr int kBlockQ = 64;
  static constexpr int kStages = 2;
  static constexpr int kPanels = kHeadDim / kPanelColumns;
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;

  // Shared memory, in bytes from a multiple of 1024. A consumer's gradients leave through the rows
  // of k and v that it alone has read.
  static constexpr int kTileKBytes = kBlockK * kHeadDim * kElementBytes;
  static constexpr int kTileQBytes = kBlockQ * kHeadDim * kElementBytes;
  static constexpr int kStatisticsBytes = 2 * kBlockQ * sizeof(float);
  static constexpr int kK = 0;
  static constexpr int kV = kK + kTileKBytes;
  static constexpr int kQ = kV + kTileKBytes;
  static constexpr int kGradOut = kQ + kStages * kTileQBytes;
  // For each stage lse * log2(e), then delta.
  static constexpr int kStatistics = kGradOut + kStages * kTileQBytes;
  static constexpr int kKFull = kStatistics + kStages * kStatisticsBytes;
  static constexpr int kKEmpty = kKFull + 8;
  // Of q and the statistics.
  static constexpr int kQFull = kKEmpty + 8;
  static constexpr int kQEmpty = kQFull + 8 * kStages;
  static constexpr int kGradOutFull = kQEmpty + 8 * kStages;
  static constexpr int kGradOutEmpty = kGradOutFull + 8 * kStages;
  static constexpr int kSharedBytes = kGradOutEmpty + 8 * kStages;
  static_assert(kSharedBytes <= 227 * 1024);
};

// The same problem with keys and queries exchanged: VisibleKeys then gives the tiles of queries
// that see a block of keys, and Mask takes scores^T.
constexpr Sequences Transposed(const Sequences& s) {
  return {s.seq_k, s.seq_q, s.window_right, s.window_left};
}

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_KEYS_CONFIG_H_
