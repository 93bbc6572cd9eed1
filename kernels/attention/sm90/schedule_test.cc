// The schedule of the Hopper kernels against its definition.
#include "kernels/attention/sm90/schedule.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <tuple>
#include <vector>

#include "kernels/attention/sm90/order.h"

namespace kernels::attention::sm90 {
namespace {

void Require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "FAILED: %s\n", what);
  std::exit(1);
}

bool Sees(const Sequences& s, int query, int key) {
  const int ahead = key - Position(s, query);
  return key >= 0 && key < s.seq_k && ahead >= -s.window_left && ahead <= s.window_right;
}

// Tiles outside the range hold no key that a query of the block sees; full ones hold no other.
void CheckKeys(const Sequences& s, int block_q, int block_k) {
  for (int first = 0; first < s.seq_q; first += block_q) {
    const KeyTiles keys = VisibleKeys(s, first, block_q, block_k);
    const int last = std::min(first + block_q, s.seq_q);
    for (int tile = 0; tile <= s.seq_k / block_k; ++tile) {
      bool any = false, all = true;
      for (int query = first; query < last; ++query) {
        for (int key = tile * block_k; key < (tile + 1) * block_k; ++key) {
          any = any || Sees(s, query, key);
          all = all && Sees(s, query, key);
        }
      }
      const bool visited = keys.begin <= tile && tile < keys.end;
      const bool full = keys.full_begin <= tile && tile < keys.full_end;
      Require(visited || !any, "a tile that is seen is visited");
      Require(visited == any || s.window_left + s.window_right + 1 < block_k,
              "a tile that no query sees is visited only within a narrow window");
      Require(full == all, "a tile takes no mask exactly if all see all of it");
    }
  }
}

void CheckAllKeys() {
  for (const int seq_q : {1, 7, 16, 40}) {
    for (const int seq_k : {1, 8, 24, 37}) {
      for (const int left : {0, 3, 20, kNoLimit}) {
        for (const int right : {0, 5, kNoLimit}) {
          CheckKeys({seq_q, seq_k, left, right}, 8, 4);
          CheckKeys({seq_q, seq_k, left, right}, 4, 8);
        }
      }
    }
  }
}

int64_t Cost(const Sequences& s, const Tile& tile, int block_q, int block_k) {
  const KeyTiles keys = VisibleKeys(s, tile.block * block_q, block_q, block_k);
  // A tile of queries costs about two tiles of keys to begin and end.
  return keys.end - keys.begin + 2;
}

// Every tile is taken once, and the thread block with the most to do has little more than others.
void CheckOrder(const Sequences& s, int batch, int num_heads, int num_kv_heads, int grid) {
  constexpr int kBlock = 128;
  const TileOrder order = MakeOrder(s, {batch, num_heads, num_kv_heads, 128}, kBlock, grid);
  std::set<std::tuple<int, int, int>> taken;
  std::vector<int64_t> work(grid);
  int64_t total = 0, longest = 0;
  for (int thread_block = 0; thread_block < grid; ++thread_block) {
    for (int turn = 0; turn * grid < NumNumbers(order); ++turn) {
      const int number = NumberOfTurn(thread_block, grid, turn);
      if (!IsTile(order, number)) continue;
      const Tile tile = TileAt(order, number);
      Require(tile.block >= 0 && tile.block < order.num_blocks && tile.head >= 0 &&
                  tile.head < num_heads && tile.batch >= 0 && tile.batch < batch,
              "a tile exists");
      Require(taken.insert({tile.block, tile.head, tile.batch}).second, "a tile is taken once");
      const int64_t cost = Cost(s, tile, kBlock, kBlock);
      work[thread_block] += cost;
      total += cost;
      longest = std::max(longest, cost);
    }
  }
  const int num_tiles = order.num_blocks * num_heads * batch;
  Require(static_cast<int>(taken.size()) == num_tiles, "all tiles are taken");
  const int64_t most = *std::max_element(work.begin(), work.end());
  const double ratio = static_cast<double>(most) * grid / static_cast<double>(total);
  std::printf("length %d, %d tiles: the longest takes %.3f of the mean\n", s.seq_q, num_tiles,
              ratio);
  Require(most <= total / grid + longest, "no thread block has a tile more than the mean");
}

}  // namespace
}  // namespace kernels::attention::sm90

int main() {
  using namespace kernels::attention::sm90;
  CheckAllKeys();
  constexpr int kH200 = 132;
  for (const int length : {512, 2048, 4096, 8192, 16384}) {
    CheckOrder({length, length, kNoLimit, 0}, 1, 64, 8, kH200);
    CheckOrder({length, length, kNoLimit, kNoLimit}, 1, 64, 8, kH200);
    CheckOrder({length, length, 1024, 0}, 2, 64, 8, kH200);
  }
  CheckOrder({8192, 8192, 0, kNoLimit}, 1, 16, 16, kH200);
  CheckOrder({16384, 16384, kNoLimit, 0}, 2, 16, 16, kH200);
  CheckOrder({100000, 100000, kNoLimit, 0}, 1, 3, 1, kH200);
  CheckOrder({1, 65536, kNoLimit, 0}, 16, 32, 8, kH200);
}
