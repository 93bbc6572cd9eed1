// Infinities and NaN that some queries of a tile see and others do not. Compiled once per
// instruction set (simd-inl.h).
//
// A product gives what is not seen a factor of 0, and 0 times infinity is NaN. So where a tile is
// partly visible and rows of it are not finite, its sums leave those rows out and take them in one
// by one, for those who see them alone. To look costs a hundredth of the tile's products.
#ifndef KERNELS_ATTENTION_CPU_HIDDEN_INL_H_
#define KERNELS_ATTENTION_CPU_HIDDEN_INL_H_

#include "kernels/attention/cpu_scores-inl.h"
#include "kernels/native/tiles-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

// Calls add(first, number) for the runs of finite rows and add_one(row) for each other row.
template <typename T, typename Add, typename AddOne>
void SplitAtRows(const T* rows, int64_t count, int64_t stride, const Add& add,
                 const AddOne& add_one) {
  int64_t begin = 0;
  for (int64_t r = 0; r < count; ++r) {
    if (AllFinite(rows + r * stride, 1, stride)) continue;
    if (r > begin) add(begin, r - begin);
    add_one(r);
    begin = r + 1;
  }
  if (count > begin) add(begin, count - begin);
}

// out[c][lane] += row[c] * weights[lane] for the lanes of the tile that see the key.
template <typename T>
void AddToLanes(const ScoreOptions<T>& o, const QueryLanes<T>& lanes, const Tile& tile, int64_t key,
                const T* row, int64_t head_dim, const T* weights, T* out) {
  for (int64_t lane = tile.first_lane; lane < tile.lanes; lane += kLanes<T>) {
    const Vec<Int<T>> seen = Sees(o, lanes, lane, key);
    for (int64_t c = 0; c < head_dim; ++c) {
      T* sum = out + c * kBlockQ + lane;
      Store(seen ? Load(sum) + row[c] * Load(weights + lane) : Load(sum), sum);
    }
  }
}

// out[key][c] += weights[key][lane] * row[c] for the keys of the tile that `lane` sees.
template <typename T>
void AddToKeys(const ScoreOptions<T>& o, const QueryLanes<T>& lanes, const Tile& tile, int64_t lane,
               const T* row, int64_t stride, const T* weights, T* out) {
  for (int64_t j = 0; j < tile.num_keys; ++j) {
    if (!SeesKey(o, lanes, lane, tile.first_key + j)) continue;
    for (int64_t c = 0; c < stride; ++c) {
      out[j * stride + c] += weights[j * kBlockQ + lane] * row[c];
    }
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_HIDDEN_INL_H_
