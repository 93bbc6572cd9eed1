// The tiles of a thread block, for its producer and its consumers alike.
#ifndef KERNELS_ATTENTION_SM90_TILES_H_
#define KERNELS_ATTENTION_SM90_TILES_H_

#include <cstdint>

#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/layout.h"
#include "kernels/attention/sm90/schedule.h"

namespace kernels::attention::sm90 {

template <class Config>
SM90_INLINE KeyTiles KeysOf(const ForwardParams& params, const Tile& tile) {
  return VisibleKeys(params.sequences, tile.block * Config::kBlockQ, Config::kBlockQ,
                     Config::kBlockK);
}

// Calls body(tile) for each tile of this thread block.
template <class Hardware, class Body>
SM90_INLINE void ForEachTile(Hardware& hw, const TileOrder& order, Body body) {
  for (int32_t turn = 0; turn * hw.GridSize() < NumNumbers(order); ++turn) {
    const int32_t number = NumberOfTurn(hw.BlockIndex(), hw.GridSize(), turn);
    if (IsTile(order, number)) body(TileAt(order, number));
  }
}

// Copies rows of one head into a matrix in shared memory; completes at `barrier`.
template <class Config, int kRows, class Hardware>
SM90_INLINE void CopyRows(Hardware& hw, const TensorMap& map, uint32_t destination,
                          uint32_t barrier, int32_t row, int32_t head, int32_t batch) {
  SM90_UNROLL
  for (int panel = 0; panel < Config::kPanels; ++panel) {
    hw.LoadBox(map, destination + panel * PanelBytes(kRows), barrier, panel * kPanelColumns, head,
               row, batch);
  }
}

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_TILES_H_
