// The softmax of a tile of scores, on the registers of one consumer warpgroup's thread.
//
// Scores are in units of log 2: exp(x) is exp2(x * log2(e)), and the factor goes into the fused
// multiply-add that subtracts the maximum. With ALiBi they get it before the bias.
#ifndef KERNELS_ATTENTION_SM90_SOFTMAX_H_
#define KERNELS_ATTENTION_SM90_SOFTMAX_H_

#include <cmath>
#include <cstdint>

#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/layout.h"
#include "kernels/attention/sm90/schedule.h"

namespace kernels::attention::sm90 {

constexpr int kRowsPerThread = 2;
// Threads that share a row of an accumulator: lanes that differ in the lowest two bits.
constexpr int kThreadsPerRow = 4;

// The state of a thread's two rows over the tiles. `sum` counts this thread's columns alone.
struct SoftmaxRows {
  float maximum[kRowsPerThread];
  float sum[kRowsPerThread];
};

// A tile of keys, seen by one thread of a warpgroup's. What depends on the thread alone is computed
// where it is needed: registers are scarcer than instructions.
struct TileView {
  int32_t thread;
  int32_t first_position;  // Of the warpgroup's queries.
  int32_t first_key;       // Of the tile.

  SM90_INLINE int32_t LastPosition() const { return first_position + kMmaRows - 1; }
  // Of the query of row `r` of this thread.
  SM90_INLINE int32_t PositionOf(int r) const {
    return first_position + AccumulatorElement(thread, 2 * r).row;
  }
  // Of register 0.
  SM90_INLINE int32_t ThreadKey() const { return first_key + AccumulatorElement(thread, 0).column; }
};

// Adds -slope * |distance| to the scaled scores, in units of log 2, up to a number for each row,
// which is returned: where all keys are on one side of all queries the distance is linear, what
// depends on the query belongs into that number, and what is left costs one multiplication for
// every two registers.
template <int kBlockK>
SM90_INLINE void AddAlibi(float (&scores)[kBlockK / 2], const TileView& view, float scale,
                          float slope, float (&row_bias)[kRowsPerThread]) {
  const bool all_before = view.first_key + kBlockK - 1 <= view.first_position;
  const bool all_after = view.first_key >= view.LastPosition();
  if (all_before || all_after) {
    const float per_key = all_before ? slope : -slope;
    SM90_UNROLL
    for (int i = 0; i < kBlockK / 2; ++i) {
      scores[i] = fmaf(scores[i], scale, per_key * static_cast<float>(ColumnOf(i)));
    }
    SM90_UNROLL
    for (int r = 0; r < kRowsPerThread; ++r) {
      row_bias[r] = per_key * static_cast<float>(view.ThreadKey() - view.PositionOf(r));
    }
    return;
  }
  float distance[kRowsPerThread];
  SM90_UNROLL
  for (int r = 0; r < kRowsPerThread; ++r) {
    distance[r] = static_cast<float>(view.PositionOf(r) - view.ThreadKey());
    row_bias[r] = 0.0f;
  }
  SM90_UNROLL
  for (int i = 0; i < kBlockK / 2; ++i) {
    const float away = fabsf(distance[RowOf(i)] - static_cast<float>(ColumnOf(i)));
    scores[i] = fmaf(scores[i], scale, -slope * away);
  }
}

// Makes what is not seen -infinity.
template <int kBlockK, bool kWindowed>
SM90_INLINE void Mask(float (&scores)[kBlockK / 2], const TileView& view, const Sequences& s) {
  if constexpr (kWindowed) {
    int32_t begin[kRowsPerThread];
    uint32_t count[kRowsPerThread];
    SM90_UNROLL
    for (int r = 0; r < kRowsPerThread; ++r) {
      begin[r] = Max(0, view.PositionOf(r) - s.window_left) - view.ThreadKey();
      const int32_t end = Min(s.seq_k, view.PositionOf(r) + s.window_right + 1) - view.ThreadKey();
      count[r] = static_cast<uint32_t>(Max(0, end - begin[r]));
    }
    SM90_UNROLL
    for (int i = 0; i < kBlockK / 2; ++i) {
      const int r = RowOf(i);
      const bool seen = static_cast<uint32_t>(ColumnOf(i) - begin[r]) < count[r];
      scores[i] = seen ? scores[i] : -INFINITY;
    }
  } else {
    const int32_t end = s.seq_k - view.ThreadKey();
    SM90_UNROLL
    for (int i = 0; i < kBlockK / 2; ++i) {
      scores[i] = ColumnOf(i) < end ? scores[i] : -INFINITY;
    }
  }
}

// Replaces scores by exponentials, updates the rows, and says by what earlier results shrink.
// `scale` is what the scores have yet to be multiplied with. No key seen so far: the maximum is
// -infinity, 0 is subtracted in its place, and all exponentials are 0.
template <int kBlockK, class Hardware>
SM90_INLINE void Exponentials(Hardware& hw, float (&scores)[kBlockK / 2],
                              const float (&row_bias)[kRowsPerThread], float scale,
                              SoftmaxRows& rows, float (&shrink)[kRowsPerThread]) {
  float largest[kRowsPerThread] = {scores[0], scores[2]};
  SM90_UNROLL
  for (int i = 0; i < kBlockK / 2; ++i) largest[RowOf(i)] = fmaxf(largest[RowOf(i)], scores[i]);
  float offset[kRowsPerThread];
  SM90_UNROLL
  for (int r = 0; r < kRowsPerThread; ++r) {
    float maximum = fmaf(largest[r], scale, row_bias[r]);
    SM90_UNROLL
    for (int lane = 1; lane < kThreadsPerRow; lane *= 2) {
      maximum = fmaxf(maximum, hw.ShuffleXor(maximum, lane));
    }
    maximum = fmaxf(maximum, rows.maximum[r]);
    const float finite = maximum == -INFINITY ? 0.0f : maximum;
    shrink[r] = hw.Exp2(rows.maximum[r] - finite);
    rows.maximum[r] = maximum;
    rows.sum[r] *= shrink[r];
    offset[r] = row_bias[r] - finite;
  }
  SM90_UNROLL
  for (int i = 0; i < kBlockK / 2; ++i) {
    scores[i] = hw.Exp2(fmaf(scores[i], scale, offset[RowOf(i)]));
    rows.sum[RowOf(i)] += scores[i];
  }
}

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_SOFTMAX_H_
