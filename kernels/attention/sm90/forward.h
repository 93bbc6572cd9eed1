// Attention forward for Hopper, one thread's part of it: warp-specialised as FlashAttention-3.
//
// A thread block is one producer warpgroup, of which one thread issues bulk copies (TMA), and two
// or three consumer warpgroups, which own 64 queries each and share all tiles of keys and values.
// Thread blocks stay and take tile after tile; the producer runs ahead of the end of a tile.
//
// A consumer overlaps its softmax twice over: it issues the scores of the next tile before the
// product of this tile's probabilities and values, and, by turns, one warpgroup's softmax runs
// while another's products do.
//
// `Hardware` is what a thread can do: hardware.h on a GPU, emulation.h in tests.
//
// Reference: Shah et al., "FlashAttention-3: Fast and Accurate Attention with Asynchrony and
// Low-precision", 2024.
#ifndef KERNELS_ATTENTION_SM90_FORWARD_H_
#define KERNELS_ATTENTION_SM90_FORWARD_H_

#include <cstdint>

#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/consumer.h"
#include "kernels/attention/sm90/layout.h"
#include "kernels/attention/sm90/producer.h"

namespace kernels::attention::sm90 {

template <class Config, class Hardware>
SM90_INLINE void InitialiseBarriers(Hardware& hw, uint32_t shared) {
  constexpr int kWarps = Config::kConsumers * kWarpgroupWarps;
  hw.BarrierInit(shared + Config::kQFull, 1);
  hw.BarrierInit(shared + Config::kQEmpty, kWarps);
  for (int stage = 0; stage < Config::kStages; ++stage) {
    hw.BarrierInit(shared + Config::kKFull + 8 * stage, 1);
    hw.BarrierInit(shared + Config::kKEmpty + 8 * stage, kWarps);
    hw.BarrierInit(shared + Config::kVFull + 8 * stage, 1);
    hw.BarrierInit(shared + Config::kVEmpty + 8 * stage, kWarps);
  }
  hw.FenceBarrierInit();
}

// The kernel.
template <class Config, class Hardware>
SM90_INLINE void Forward(Hardware& hw, const ForwardParams& params) {
  const uint32_t shared = hw.SharedBase();
  const int32_t warpgroup = hw.WarpgroupIndex();
  const int32_t thread = hw.ThreadIndex() % kWarpgroupThreads;
  if (hw.ThreadIndex() == 0) InitialiseBarriers<Config>(hw, shared);
  hw.SyncThreads();
  if (warpgroup == 0) {
    hw.template ReleaseRegisters<Config::kProducerRegisters>();
    if (thread == 0) Producer<Config, Hardware>{hw, params, shared}.Run();
  } else {
    hw.template ClaimRegisters<Config::kConsumerRegisters>();
    Consumer<Config, Hardware>{hw, params, shared, warpgroup - 1, thread, {thread, 0, 0}}.Run();
  }
}

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_FORWARD_H_
