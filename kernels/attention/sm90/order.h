// The order of tiles for a problem; on the host.
#ifndef KERNELS_ATTENTION_SM90_ORDER_H_
#define KERNELS_ATTENTION_SM90_ORDER_H_

#include <algorithm>
#include <cstdint>

#include "kernels/attention/sm90/layout.h"
#include "kernels/attention/sm90/schedule.h"

namespace kernels::attention::sm90 {

// Of the 50 MB of an H100's and H200's L2 cache, what keys and values may count on.
constexpr int64_t kCacheBytes = 32 << 20;

struct Heads {
  int32_t batch;
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
};

// For tiles of `block_q` queries on up to `multiprocessors` thread blocks. Heads that read the same
// keys and values stay in one section. If tiles differ in cost, thread blocks take turns that begin
// with a section, or the balance between odd and even turns is lost; and if a section is too small
// for that, there is only one.
inline TileOrder MakeOrder(const Sequences& s, const Heads& heads, int32_t block_q,
                           int32_t multiprocessors) {
  const int64_t kv_head_bytes = int64_t{2} * s.seq_k * heads.head_dim * kElementBytes;
  const int64_t kv_heads = int64_t{heads.batch} * heads.num_kv_heads;
  const int64_t cached = std::clamp<int64_t>(kCacheBytes / kv_head_bytes, 1, kv_heads);
  const int32_t group = heads.num_heads / heads.num_kv_heads;
  TileOrder order{};
  order.num_blocks = DivideUp(s.seq_q, block_q);
  order.num_heads = heads.num_heads;
  order.batch = heads.batch;
  order.last_block_first = s.window_right < kNoLimit;
  order.heads_per_section = static_cast<int32_t>(cached) * group;
  order.numbers_per_section = order.heads_per_section * order.num_blocks;
  const bool tiles_differ = (s.window_left < kNoLimit) != (s.window_right < kNoLimit);
  if (!tiles_differ) return order;
  if (order.numbers_per_section >= 2 * multiprocessors) {
    order.numbers_per_section =
        DivideUp(order.numbers_per_section, multiprocessors) * multiprocessors;
  } else {
    order.heads_per_section = heads.batch * heads.num_heads;
    order.numbers_per_section = order.heads_per_section * order.num_blocks;
  }
  return order;
}

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_ORDER_H_
