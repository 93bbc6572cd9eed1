// Which blocks of queries each thread block of the Hopper kernels takes, and which tiles of keys
// those need. Compiles for the host too, where schedule_test.cc checks it.
#ifndef KERNELS_ATTENTION_SM90_SCHEDULE_H_
#define KERNELS_ATTENTION_SM90_SCHEDULE_H_

#include <cstdint>

#include "kernels/attention/sm90/layout.h"

namespace kernels::attention::sm90 {

// A window without a limit; larger than any sequence, so that sums with positions fit in 32 bits.
constexpr int32_t kMaxSequence = 1 << 28;
constexpr int32_t kNoLimit = 1 << 29;

struct Sequences {
  int32_t seq_q;
  int32_t seq_k;
  int32_t window_left;
  int32_t window_right;
};

SM90_INLINE constexpr int32_t Min(int32_t a, int32_t b) { return a < b ? a : b; }
SM90_INLINE constexpr int32_t Max(int32_t a, int32_t b) { return a < b ? b : a; }
SM90_INLINE constexpr int32_t DivideUp(int32_t a, int32_t b) { return (a + b - 1) / b; }

// The position of a query among the keys.
SM90_INLINE constexpr int32_t Position(const Sequences& s, int32_t query) {
  return query + s.seq_k - s.seq_q;
}

// Tiles of keys that a block of queries visits: begin <= tile < end. Those with
// full_begin <= tile < full_end are seen whole by all its queries and take no mask.
struct KeyTiles {
  int32_t begin;
  int32_t full_begin;
  int32_t full_end;
  int32_t end;
};

SM90_INLINE constexpr KeyTiles VisibleKeys(const Sequences& s, int32_t first_query, int32_t block_q,
                                           int32_t block_k) {
  const int32_t first = Position(s, first_query);
  const int32_t last = Position(s, Min(first_query + block_q, s.seq_q) - 1);
  const int32_t seen_begin = Max(0, first - s.window_left);
  const int32_t seen_end = Min(s.seq_k, last + s.window_right + 1);
  if (seen_begin >= seen_end) return {0, 0, 0, 0};
  const int32_t begin = seen_begin / block_k;
  const int32_t end = DivideUp(seen_end, block_k);
  const int32_t full_begin = DivideUp(Max(0, last - s.window_left), block_k);
  const int32_t full_end = Max(0, Min(s.seq_k, first + s.window_right + 1)) / block_k;
  if (full_begin >= full_end) return {begin, begin, begin, end};
  return {begin, full_begin, full_end, end};
}

// A block of queries of one head of one batch row.
struct Tile {
  int32_t block;
  int32_t head;
  int32_t batch;
};

// The order of all tiles: sections of heads whose keys and values fit in the L2 cache together, in
// a section the blocks that see the most keys first, for a block all heads of the section. So the
// last tiles to start are short, and neighbours read the same keys.
struct TileOrder {
  int32_t num_blocks;
  int32_t num_heads;
  int32_t batch;
  int32_t heads_per_section;
  // At least the tiles of a section; numbers past those are none.
  int32_t numbers_per_section;
  // The last block sees the most keys: the window ends on its right.
  int32_t last_block_first;
};

SM90_INLINE constexpr int32_t NumNumbers(const TileOrder& order) {
  return DivideUp(order.num_heads * order.batch, order.heads_per_section) *
         order.numbers_per_section;
}

SM90_INLINE constexpr int32_t FirstHead(const TileOrder& order, int32_t number) {
  return number / order.numbers_per_section * order.heads_per_section;
}

// Of the section of that number.
SM90_INLINE constexpr int32_t NumHeads(const TileOrder& order, int32_t number) {
  return Min(order.heads_per_section, order.num_heads * order.batch - FirstHead(order, number));
}

SM90_INLINE constexpr bool IsTile(const TileOrder& order, int32_t number) {
  return number < NumNumbers(order) &&
         number % order.numbers_per_section < NumHeads(order, number) * order.num_blocks;
}

SM90_INLINE constexpr Tile TileAt(const TileOrder& order, int32_t number) {
  const int32_t rest = number % order.numbers_per_section;
  const int32_t heads = NumHeads(order, number);
  const int32_t rank = rest / heads;
  const int32_t head = FirstHead(order, number) + rest % heads;
  return {order.last_block_first ? order.num_blocks - 1 - rank : rank, head % order.num_heads,
          head / order.num_heads};
}

// The number of the tile that a thread block takes as its `turn`th. Every other turn goes
// backwards, so that who got the longest of one turn gets the shortest of the next.
SM90_INLINE constexpr int32_t NumberOfTurn(int32_t thread_block, int32_t grid, int32_t turn) {
  return turn * grid + (turn % 2 == 0 ? thread_block : grid - 1 - thread_block);
}

// A ring of buffers, walked by producer and consumers alike. `phase` is the parity of the rounds.
template <int kStages>
struct Ring {
  int32_t stage = 0;
  uint32_t phase = 0;

  SM90_INLINE constexpr void Advance() {
    if (++stage == kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_SCHEDULE_H_
