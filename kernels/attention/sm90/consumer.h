// A consumer of a thread block: one thread of a warpgroup that owns 64 queries.
#ifndef KERNELS_ATTENTION_SM90_CONSUMER_H_
#define KERNELS_ATTENTION_SM90_CONSUMER_H_

#include <cmath>
#include <cstdint>

#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/layout.h"
#include "kernels/attention/sm90/schedule.h"
#include "kernels/attention/sm90/softmax.h"
#include "kernels/attention/sm90/tiles.h"

namespace kernels::attention::sm90 {

template <class Config, class Hardware>
struct Consumer {
  static constexpr int kScores = Config::kBlockK / 2;
  static constexpr int kOutputs = Config::kHeadDim / 2;
  using Type = typename Config::Type;

  Hardware& hw;
  const ForwardParams& params;
  uint32_t shared;
  int32_t index;   // Of the consumer.
  int32_t thread;  // Within the warpgroup.
  TileView view;
  Ring<1> q{};
  Ring<Config::kStages> k{};
  Ring<Config::kStages> v{};
  float slope_log2 = 0.0f;

  SM90_INLINE void Run() {
    // The first turn is the first consumer's: the last one passes it on.
    if (index == Config::kConsumers - 1) PassTurn();
    ForEachTile(hw, params.order, [&](const Tile& tile) { Compute(tile); });
    if (thread == 0) hw.StoresWaitRead();
  }

  SM90_INLINE void Compute(const Tile& tile) {
    float out[kOutputs];
    SM90_UNROLL
    for (int i = 0; i < kOutputs; ++i) out[i] = 0.0f;
    SoftmaxRows rows{{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
    const KeyTiles keys = KeysOf<Config>(params, tile);
    if (keys.begin < keys.end) {
      StartTile(tile);
      Attend(keys, out, rows);
    }
    Finish(tile, out, rows);
  }

  SM90_INLINE void StartTile(const Tile& tile) {
    const int32_t first = tile.block * Config::kBlockQ + index * kMmaRows;
    view.first_position = Position(params.sequences, first);
    if constexpr (Config::kAlibi) {
      constexpr float kLog2E = 1.4426950408889634f;
      slope_log2 = kLog2E * params.alibi_slopes[tile.batch * params.order.num_heads + tile.head];
    }
  }

  // From the last tile of keys to the first.
  SM90_INLINE void Attend(const KeyTiles& keys, float (&out)[kOutputs], SoftmaxRows& rows) {
    float scores[kScores];
    uint32_t probabilities[kScores / 2];
    float shrink[kRowsPerThread];
    hw.BarrierWait(shared + Config::kQFull, q.phase);
    hw.BarrierWait(shared + Config::kKFull + 8 * k.stage, k.phase);
    IssueScores(scores);
    hw.template MmaWait<0>();
    hw.Settle(scores);
    Release(Config::kKEmpty, k);
    Softmax(keys, keys.end - 1, scores, rows, shrink);
    Round(scores, probabilities);
    for (int32_t n = keys.end - 2; n >= keys.begin; --n) {
      hw.BarrierWait(shared + Config::kKFull + 8 * k.stage, k.phase);
      hw.NamedSync(kTurnBarrier + index, 2 * kWarpgroupThreads);
      IssueScores(scores);
      hw.BarrierWait(shared + Config::kVFull + 8 * v.stage, v.phase);
      IssueOutputs(probabilities, out);
      PassTurn();
      hw.template MmaWait<1>();
      hw.Settle(scores);
      Release(Config::kKEmpty, k);
      Softmax(keys, n, scores, rows, shrink);
      hw.MmaWaitHere(params.sequences.seq_q);
      hw.Settle(out);
      Release(Config::kVEmpty, v);
      Round(scores, probabilities);
      SM90_UNROLL
      for (int i = 0; i < kOutputs; ++i) out[i] *= shrink[RowOf(i)];
    }
    Arrive(Config::kQEmpty);
    q.Advance();
    hw.BarrierWait(shared + Config::kVFull + 8 * v.stage, v.phase);
    IssueOutputs(probabilities, out);
    hw.template MmaWait<0>();
    hw.Settle(out);
    Release(Config::kVEmpty, v);
  }

  SM90_INLINE void PassTurn() {
    hw.NamedArrive(kTurnBarrier + (index + 1) % Config::kConsumers, 2 * kWarpgroupThreads);
  }

  // Every warp says for itself that it is done with a buffer.
  SM90_INLINE void Arrive(uint32_t barrier) {
    if (thread % kWarpThreads == 0) hw.BarrierArrive(shared + barrier);
  }

  SM90_INLINE void Release(uint32_t empty, Ring<Config::kStages>& ring) {
    Arrive(empty + 8 * ring.stage);
    ring.Advance();
  }

  // scores = q k^T, for the current stage of k.
  SM90_INLINE void IssueScores(float (&scores)[kScores]) {
    const uint64_t a = RowsDescriptor(shared + Config::kQ + index * kMmaRows * kPanelRowBytes);
    const uint64_t b = RowsDescriptor(shared + Config::kK + k.stage * Config::kTileKBytes);
    hw.MmaFence();
    SM90_UNROLL
    for (int step = 0; step < Config::kHeadDim / kMmaDepth; ++step) {
      hw.template Mma<Type, Config::kBlockK>(scores, a + RowsStep(Config::kBlockQ, step),
                                             b + RowsStep(Config::kBlockK, step), step > 0);
    }
    hw.MmaCommit();
  }

  // out += probabilities v, for the current stage of v.
  SM90_INLINE void IssueOutputs(const uint32_t (&probabilities)[kScores / 2],
                                float (&out)[kOutputs]) {
    const uint64_t b =
        ColumnsDescriptor(shared + Config::kV + v.stage * Config::kTileKBytes, Config::kBlockK);
    hw.MmaFence();
    SM90_UNROLL
    for (int step = 0; step < Config::kBlockK / kMmaDepth; ++step) {
      hw.template MmaFromRegisters<Type, Config::kHeadDim>(out, &probabilities[4 * step],
                                                           b + ColumnsStep(step));
    }
    hw.MmaCommit();
  }

  SM90_INLINE void Softmax(const KeyTiles& keys, int32_t n, float (&scores)[kScores],
                           SoftmaxRows& rows, float (&shrink)[kRowsPerThread]) {
    view.first_key = n * Config::kBlockK;
    float row_bias[kRowsPerThread] = {0.0f, 0.0f};
    float scale = params.scale_log2;
    if constexpr (Config::kAlibi) {
      AddAlibi<Config::kBlockK>(scores, view, scale, slope_log2, row_bias);
      scale = 1.0f;
    }
    if (n < keys.full_begin || n >= keys.full_end) {
      Mask<Config::kBlockK, Config::kWindowed>(scores, view, params.sequences);
    }
    Exponentials<Config::kBlockK>(hw, scores, row_bias, scale, rows, shrink);
  }

  SM90_INLINE void Round(const float (&scores)[kScores], uint32_t (&probabilities)[kScores / 2]) {
    SM90_UNROLL
    for (int i = 0; i < kScores / 2; ++i) {
      probabilities[i] = hw.template Pack<Type>(scores[2 * i], scores[2 * i + 1]);
    }
  }

  // Divides by the sums and writes out, through shared memory, and lse.
  SM90_INLINE void Finish(const Tile& tile, float (&out)[kOutputs], SoftmaxRows& rows) {
    constexpr float kLn2 = 0.6931471805599453f;
    const int32_t first = tile.block * Config::kBlockQ + index * kMmaRows;
    const int64_t head = static_cast<int64_t>(tile.batch) * params.order.num_heads + tile.head;
    SM90_UNROLL
    for (int r = 0; r < kRowsPerThread; ++r) {
      float sum = rows.sum[r];
      SM90_UNROLL
      for (int lane = 1; lane < kThreadsPerRow; lane *= 2) sum += hw.ShuffleXor(sum, lane);
      const float inverse = sum == 0.0f ? 0.0f : hw.Reciprocal(sum);
      SM90_UNROLL
      for (int i = 0; i < kOutputs; ++i) {
        if (RowOf(i) == r) out[i] *= inverse;
      }
      const int32_t query = first + AccumulatorElement(thread, 2 * r).row;
      if (thread % kThreadsPerRow == 0 && query < params.sequences.seq_q) {
        params.lse[head * params.sequences.seq_q + query] =
            sum == 0.0f ? -INFINITY : kLn2 * (rows.maximum[r] + hw.Log2(sum));
      }
    }
    StoreOut(tile, first, out);
  }

  SM90_INLINE void StoreOut(const Tile& tile, int32_t first, const float (&out)[kOutputs]) {
    const uint32_t buffer = shared + Config::kOut + index * kMmaRows * Config::kHeadDim * 2;
    // The last tile's store has to have read the buffer.
    if (thread == 0) hw.StoresWaitRead();
    hw.NamedSync(kEpilogueBarrier + index, kWarpgroupThreads);
    const int32_t writer = hw.Opaque(thread);
    SM90_UNROLL
    for (int i = 0; i < kOutputs; i += 2) {
      const Element element = AccumulatorElement(writer, i);
      hw.StoreShared(buffer + SharedOffset(kMmaRows, element.row, element.column),
                     hw.template Pack<Type>(out[i], out[i + 1]));
    }
    hw.FenceForCopies();
    hw.NamedSync(kEpilogueBarrier + index, kWarpgroupThreads);
    if (thread != 0 || first >= params.sequences.seq_q) return;
    SM90_UNROLL
    for (int panel = 0; panel < Config::kPanels; ++panel) {
      hw.StoreBox(params.out, buffer + panel * PanelBytes(kMmaRows), panel * kPanelColumns,
                  tile.head, first, tile.batch);
    }
    hw.StoresCommit();
  }
};

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_CONSUMER_H_
