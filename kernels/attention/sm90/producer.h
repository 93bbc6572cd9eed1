// The producer of a thread block: one thread that starts all loads.
#ifndef KERNELS_ATTENTION_SM90_PRODUCER_H_
#define KERNELS_ATTENTION_SM90_PRODUCER_H_

#include <cstdint>

#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/layout.h"
#include "kernels/attention/sm90/schedule.h"
#include "kernels/attention/sm90/tiles.h"

namespace kernels::attention::sm90 {

template <class Config, class Hardware>
struct Producer {
  Hardware& hw;
  const ForwardParams& params;
  uint32_t shared;
  Ring<1> q{};
  Ring<Config::kStages> k{};
  Ring<Config::kStages> v{};

  SM90_INLINE void Run() {
    ForEachTile(hw, params.order, [&](const Tile& tile) { LoadTile(tile); });
  }

  SM90_INLINE void LoadTile(const Tile& tile) {
    const KeyTiles keys = KeysOf<Config>(params, tile);
    if (keys.begin == keys.end) return;
    LoadK(tile, keys.end - 1);
    LoadQ(tile);
    for (int32_t n = keys.end - 1; n > keys.begin; --n) {
      LoadK(tile, n - 1);
      LoadV(tile, n);
    }
    LoadV(tile, keys.begin);
  }

  SM90_INLINE void LoadQ(const Tile& tile) {
    hw.BarrierWait(shared + Config::kQEmpty, q.phase ^ 1);
    hw.BarrierArriveExpecting(shared + Config::kQFull, Config::kTileQBytes);
    CopyRows<Config, Config::kBlockQ>(hw, params.q, shared + Config::kQ, shared + Config::kQFull,
                                      tile.block * Config::kBlockQ, tile.head, tile.batch);
    q.Advance();
  }

  SM90_INLINE void LoadK(const Tile& tile, int32_t n) {
    LoadStage(params.k, Config::kK, Config::kKFull, Config::kKEmpty, k, tile, n);
  }

  SM90_INLINE void LoadV(const Tile& tile, int32_t n) {
    LoadStage(params.v, Config::kV, Config::kVFull, Config::kVEmpty, v, tile, n);
  }

  SM90_INLINE void LoadStage(const TensorMap& map, uint32_t buffer, uint32_t full, uint32_t empty,
                             Ring<Config::kStages>& ring, const Tile& tile, int32_t n) {
    const uint32_t barrier = shared + full + 8 * ring.stage;
    hw.BarrierWait(shared + empty + 8 * ring.stage, ring.phase ^ 1);
    hw.BarrierArriveExpecting(barrier, Config::kTileKBytes);
    CopyRows<Config, Config::kBlockK>(hw, map, shared + buffer + ring.stage * Config::kTileKBytes,
                                      barrier, n * Config::kBlockK,
                                      tile.head / params.heads_per_kv_head, tile.batch);
    ring.Advance();
  }
};

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_PRODUCER_H_
