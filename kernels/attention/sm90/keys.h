// Gradients of keys and values for Hopper, one thread's part of it; structured as forward.h.
//
// A thread block owns 128 keys of one key head and visits the queries that see them, of all query
// heads of the group: nothing is added up in memory, so results do not depend on any order. It
// works on transposed scores: probabilities^T and their gradient are then, as they stand in
// registers, the first operands of grad_v = p^T grad_out and grad_k = ds^T q.
#ifndef KERNELS_ATTENTION_SM90_KEYS_H_
#define KERNELS_ATTENTION_SM90_KEYS_H_

#include <cmath>
#include <cstdint>

#include "kernels/attention/sm90/keys_config.h"
#include "kernels/attention/sm90/layout.h"
#include "kernels/attention/sm90/schedule.h"
#include "kernels/attention/sm90/softmax.h"
#include "kernels/attention/sm90/tiles.h"

namespace kernels::attention::sm90 {

// Calls body(head, n) for each tile n of queries that a tile of keys needs.
template <class Config, class Body>
SM90_INLINE void ForEachQueries(const KeysParams& params, const Tile& tile, Body body) {
  const KeyTiles queries =
      VisibleKeys(params.sequences, tile.block * Config::kBlockK, Config::kBlockK, Config::kBlockQ);
  for (int32_t i = 0; i < params.heads_per_kv_head; ++i) {
    for (int32_t n = queries.begin; n < queries.end; ++n) {
      body(tile.head * params.heads_per_kv_head + i, n,
           n < queries.full_begin || n >= queries.full_end);
    }
  }
}

// One thread that starts all copies.
template <class Config, class Hardware>
struct KeysProducer {
  Hardware& hw;
  const KeysParams& params;
  uint32_t shared;
  Ring<1> k{};
  Ring<Config::kStages> q{};

  SM90_INLINE void Run() {
    ForEachTile(hw, params.order, [&](const Tile& tile) { LoadTile(tile); });
  }

  SM90_INLINE void LoadTile(const Tile& tile) {
    const int32_t row = tile.block * Config::kBlockK;
    hw.BarrierWait(shared + Config::kKEmpty, k.phase ^ 1);
    hw.BarrierArriveExpecting(shared + Config::kKFull, 2 * Config::kTileKBytes);
    CopyRows<Config, Config::kBlockK>(hw, params.k, shared + Config::kK, shared + Config::kKFull,
                                      row, tile.head, tile.batch);
    CopyRows<Config, Config::kBlockK>(hw, params.v, shared + Config::kV, shared + Config::kKFull,
                                      row, tile.head, tile.batch);
    k.Advance();
    ForEachQueries<Config>(params, tile, [&](int32_t head, int32_t n, bool) {
      Load(params.q, Config::kQ, Config::kQFull, Config::kQEmpty, head, n, tile.batch);
      Load(params.grad_out, Config::kGradOut, Config::kGradOutFull, Config::kGradOutEmpty, head, n,
           tile.batch);
      q.Advance();
    });
  }

  SM90_INLINE void Load(const TensorMap& map, uint32_t buffer, uint32_t full, uint32_t empty,
                        int32_t head, int32_t n, int32_t batch) {
    const uint32_t barrier = shared + full + 8 * q.stage;
    hw.BarrierWait(shared + empty + 8 * q.stage, q.phase ^ 1);
    hw.BarrierArriveExpecting(barrier, Config::kTileQBytes);
    CopyRows<Config, Config::kBlockQ>(hw, map, shared + buffer + q.stage * Config::kTileQBytes,
                                      barrier, n * Config::kBlockQ, head, batch);
  }
};

// One warp that loads lse and delta: rows of them are not aligned as copies need it.
template <class Config, class Hardware>
struct KeysStatistics {
  Hardware& hw;
  const KeysParams& params;
  uint32_t shared;
  int32_t lane;
  Ring<Config::kStages> q{};

  SM90_INLINE void Run() {
    ForEachTile(hw, params.order, [&](const Tile& tile) {
      ForEachQueries<Config>(params, tile, [&](int32_t head, int32_t n, bool) {
        hw.BarrierWait(shared + Config::kQEmpty + 8 * q.stage, q.phase ^ 1);
        Load(tile.batch * params.order.num_heads * params.heads_per_kv_head + head, n);
        hw.SyncWarp();
        if (lane == 0) hw.BarrierArrive(shared + Config::kQFull + 8 * q.stage);
        q.Advance();
      });
    });
  }

  // No probability is above 0 where there is no query, or one that sees nothing.
  SM90_INLINE void Load(int64_t head, int32_t n) {
    constexpr float kLog2E = 1.4426950408889634f;
    const int32_t seq_q = params.sequences.seq_k;
    const uint32_t buffer = shared + Config::kStatistics + q.stage * Config::kStatisticsBytes;
    for (int32_t i = lane; i < Config::kBlockQ; i += kWarpThreads) {
      const int32_t query = n * Config::kBlockQ + i;
      float lse = INFINITY, delta = 0.0f;
      if (query < seq_q) {
        lse = kLog2E * params.lse[head * seq_q + query];
        delta = params.delta[head * seq_q + query];
        if (lse == -INFINITY) lse = INFINITY;
      }
      hw.StoreShared(buffer + 4 * i, hw.Bits(lse));
      hw.StoreShared(buffer + 4 * (Config::kBlockQ + i), hw.Bits(delta));
    }
  }
};

template <class Config, class Hardware>
struct KeysConsumer {
  static constexpr int kScores = Config::kBlockQ / 2;
  static constexpr int kGrads = Config::kHeadDim / 2;
  using Type = typename Config::Type;

  Hardware& hw;
  const KeysParams& params;
  uint32_t shared;
  int32_t index;   // Of the consumer.
  int32_t thread;  // Within the warpgroup.
  Ring<1> k{};
  Ring<Config::kStages> q{};

  SM90_INLINE void Run() {
    ForEachTile(hw, params.order, [&](const Tile& tile) { Compute(tile); });
  }

  SM90_INLINE void Compute(const Tile& tile) {
    float grad_k[kGrads], grad_v[kGrads];
    SM90_UNROLL
    for (int i = 0; i < kGrads; ++i) grad_k[i] = grad_v[i] = 0.0f;
    // For keys that nobody sees too: the buffers are this tile's only then.
    hw.BarrierWait(shared + Config::kKFull, k.phase);
    ForEachQueries<Config>(params, tile, [&](int32_t head, int32_t n, bool masked) {
      Visit(tile, head, n, masked, grad_k, grad_v);
    });
    SM90_UNROLL
    for (int i = 0; i < kGrads; ++i) grad_k[i] *= params.softmax_scale;
    Store(tile, grad_k, grad_v);
    if (thread == 0) hw.BarrierArrive(shared + Config::kKEmpty);
    k.Advance();
  }

  SM90_INLINE void Visit(const Tile& tile, int32_t head, int32_t n, bool masked,
                         float (&grad_k)[kGrads], float (&grad_v)[kGrads]) {
    float scores[kScores], grads[kScores];
    uint32_t rounded[kScores / 2], rounded_grads[kScores / 2];
    const uint32_t q_tile = shared + Config::kQ + q.stage * Config::kTileQBytes;
    const uint32_t grad_out_tile = shared + Config::kGradOut + q.stage * Config::kTileQBytes;
    hw.BarrierWait(shared + Config::kQFull + 8 * q.stage, q.phase);
    IssueScores(Config::kK, q_tile, scores);
    hw.BarrierWait(shared + Config::kGradOutFull + 8 * q.stage, q.phase);
    IssueScores(Config::kV, grad_out_tile, grads);
    hw.template MmaWait<1>();
    hw.Settle(scores);
    Probabilities(tile, head, n, masked, scores);
    Round(scores, rounded);
    IssueGrads(rounded, grad_out_tile, grad_v);
    hw.template MmaWait<1>();
    hw.Settle(grads);
    const uint32_t delta = StatisticsOf(Config::kBlockQ);
    SM90_UNROLL
    for (int i = 0; i < kScores; i += 4) {
      const Pair pair = hw.LoadShared(delta + 4 * ColumnOf(i));
      SM90_UNROLL
      for (int r = 0; r < kRowsPerThread; ++r) {
        grads[i + 2 * r] = scores[i + 2 * r] * (grads[i + 2 * r] - pair.first);
        grads[i + 2 * r + 1] = scores[i + 2 * r + 1] * (grads[i + 2 * r + 1] - pair.second);
      }
    }
    Round(grads, rounded_grads);
    IssueGrads(rounded_grads, q_tile, grad_k);
    hw.template MmaWait<0>();
    hw.Settle(grad_v);
    hw.Settle(grad_k);
    Arrive(Config::kQEmpty + 8 * q.stage);
    Arrive(Config::kGradOutEmpty + 8 * q.stage);
    q.Advance();
  }

  // Address of what this thread's register 0 needs of the statistics from `first` on.
  SM90_INLINE uint32_t StatisticsOf(int first) {
    return shared + Config::kStatistics + q.stage * Config::kStatisticsBytes +
           4 * (first + AccumulatorElement(thread, 0).column);
  }

  SM90_INLINE void Probabilities(const Tile& tile, int32_t head, int32_t n, bool masked,
                                 float (&scores)[kScores]) {
    const TileView view{thread,
                        Position(params.sequences, tile.block * Config::kBlockK + index * kMmaRows),
                        n * Config::kBlockQ};
    float row_bias[kRowsPerThread] = {0.0f, 0.0f};
    float scale = params.scale_log2;
    if constexpr (Config::kAlibi) {
      constexpr float kLog2E = 1.4426950408889634f;
      const int32_t num_heads = params.order.num_heads * params.heads_per_kv_head;
      const float slope = kLog2E * params.alibi_slopes[tile.batch * num_heads + head];
      AddAlibi<Config::kBlockQ>(scores, view, scale, slope, row_bias);
      scale = 1.0f;
    }
    if (masked) Mask<Config::kBlockQ, Config::kWindowed>(scores, view, params.sequences);
    const uint32_t lse = StatisticsOf(0);
    SM90_UNROLL
    for (int i = 0; i < kScores; i += 4) {
      const Pair pair = hw.LoadShared(lse + 4 * ColumnOf(i));
      SM90_UNROLL
      for (int r = 0; r < kRowsPerThread; ++r) {
        scores[i + 2 * r] = hw.Exp2(fmaf(scores[i + 2 * r], scale, row_bias[r] - pair.first));
        scores[i + 2 * r + 1] =
            hw.Exp2(fmaf(scores[i + 2 * r + 1], scale, row_bias[r] - pair.second));
      }
    }
  }

  // k q^T or v grad_out^T of this consumer's rows.
  SM90_INLINE void IssueScores(uint32_t rows, uint32_t tile, float (&d)[kScores]) {
    const uint64_t a = RowsDescriptor(shared + rows + index * kMmaRows * kPanelRowBytes);
    const uint64_t b = RowsDescriptor(tile);
    hw.MmaFence();
    SM90_UNROLL
    for (int step = 0; step < Config::kHeadDim / kMmaDepth; ++step) {
      hw.template Mma<Type, Config::kBlockQ>(d, a + RowsStep(Config::kBlockK, step),
                                             b + RowsStep(Config::kBlockQ, step), step > 0);
    }
    hw.MmaCommit();
  }

  SM90_INLINE void IssueGrads(const uint32_t (&a)[kScores / 2], uint32_t tile, float (&d)[kGrads]) {
    const uint64_t b = ColumnsDescriptor(tile, Config::kBlockQ);
    hw.MmaFence();
    SM90_UNROLL
    for (int step = 0; step < Config::kBlockQ / kMmaDepth; ++step) {
      hw.template MmaFromRegisters<Type, Config::kHeadDim>(d, &a[4 * step], b + ColumnsStep(step));
    }
    hw.MmaCommit();
  }

  SM90_INLINE void Round(const float (&numbers)[kScores], uint32_t (&rounded)[kScores / 2]) {
    SM90_UNROLL
    for (int i = 0; i < kScores / 2; ++i) {
      rounded[i] = hw.template Pack<Type>(numbers[2 * i], numbers[2 * i + 1]);
    }
  }

  SM90_INLINE void Arrive(uint32_t barrier) {
    if (thread % kWarpThreads == 0) hw.BarrierArrive(shared + barrier);
  }

  SM90_INLINE void Store(const Tile& tile, const float (&grad_k)[kGrads],
                         const float (&grad_v)[kGrads]) {
    // All warps of this consumer have read k and v.
    hw.NamedSync(kEpilogueBarrier + index, kWarpgroupThreads);
    Stage(Config::kK, grad_k);
    Stage(Config::kV, grad_v);
    hw.FenceForCopies();
    hw.NamedSync(kEpilogueBarrier + index, kWarpgroupThreads);
    const int32_t first = tile.block * Config::kBlockK + index * kMmaRows;
    if (thread != 0 || first >= params.sequences.seq_q) return;
    SM90_UNROLL
    for (int panel = 0; panel < Config::kPanels; ++panel) {
      hw.StoreBox(params.grad_k, StagedPanel(Config::kK, panel), panel * kPanelColumns, tile.head,
                  first, tile.batch);
      hw.StoreBox(params.grad_v, StagedPanel(Config::kV, panel), panel * kPanelColumns, tile.head,
                  first, tile.batch);
    }
    hw.StoresCommit();
    hw.StoresWaitRead();
  }

  SM90_INLINE uint32_t StagedPanel(uint32_t rows, int panel) {
    return shared + rows + panel * PanelBytes(Config::kBlockK) + index * PanelBytes(kMmaRows);
  }

  SM90_INLINE void Stage(uint32_t rows, const float (&grads)[kGrads]) {
    const int32_t writer = hw.Opaque(thread);
    SM90_UNROLL
    for (int i = 0; i < kGrads; i += 2) {
      const Element element = AccumulatorElement(writer, i);
      const int32_t row = index * kMmaRows + element.row;
      hw.StoreShared(shared + rows + SharedOffset(Config::kBlockK, row, element.column),
                     hw.template Pack<Type>(grads[i], grads[i + 1]));
    }
  }
};

template <class Config, class Hardware>
SM90_INLINE void InitialiseKeysBarriers(Hardware& hw, uint32_t shared) {
  constexpr int kWarps = Config::kConsumers * kWarpgroupWarps;
  hw.BarrierInit(shared + Config::kKFull, 1);
  hw.BarrierInit(shared + Config::kKEmpty, Config::kConsumers);
  for (int stage = 0; stage < Config::kStages; ++stage) {
    hw.BarrierInit(shared + Config::kQFull + 8 * stage, 2);
    hw.BarrierInit(shared + Config::kQEmpty + 8 * stage, kWarps);
    hw.BarrierInit(shared + Config::kGradOutFull + 8 * stage, 1);
    hw.BarrierInit(shared + Config::kGradOutEmpty + 8 * stage, kWarps);
  }
  hw.FenceBarrierInit();
}

// The kernel.
template <class Config, class Hardware>
SM90_INLINE void BackwardKeys(Hardware& hw, const KeysParams& params) {
  const uint32_t shared = hw.SharedBase();
  const int32_t warpgroup = hw.WarpgroupIndex();
  const int32_t thread = hw.ThreadIndex() % kWarpgroupThreads;
  if (hw.ThreadIndex() == 0) InitialiseKeysBarriers<Config>(hw, shared);
  hw.SyncThreads();
  if (warpgroup == 0) {
    hw.template ReleaseRegisters<Config::kProducerRegisters>();
    if (thread == 0) KeysProducer<Config, Hardware>{hw, params, shared}.Run();
    const int32_t lane = thread - kWarpThreads;
    if (lane >= 0 && lane < kWarpThreads) {
      KeysStatistics<Config, Hardware>{hw, params, shared, lane}.Run();
    }
  } else {
    hw.template ClaimRegisters<Config::kConsumerRegisters>();
    KeysConsumer<Config, Hardware>{hw, params, shared, warpgroup - 1, thread}.Run();
  }
}

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_KEYS_H_
