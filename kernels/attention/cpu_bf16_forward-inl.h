// The forward tasks of the bfloat16 path. Compiled once per engine (bf16_tiles-inl.h).
//
//   S^T = k q^T     P^T = 2^(S^T - shift)     out^T += v^T P^T
//
// Scores are [key, query] as in cpu_forward-inl.h. A task goes through the keys of its block of
// queries in tiles of kTileKeys, in a pipeline: while the vector units turn one tile of scores into
// probabilities, the matrix unit computes the scores of the next and, of kTilesPerValues tiles
// before, the product with v: that many at once, since its sums are read from memory and written
// back each time.
#ifndef KERNELS_ATTENTION_CPU_BF16_FORWARD_INL_H_
#define KERNELS_ATTENTION_CPU_BF16_FORWARD_INL_H_

#include "kernels/attention/cpu_bf16_softmax-inl.h"
#include "kernels/attention/cpu_bf16_stage-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

constexpr int64_t kTilesPerValues = 4;

struct ForwardMemory {
  Staging staging;
  Bits16* q;                 // [width / 32, kBlockQ / 16]: right tiles.
  float* scores[2];          // [kTileKeys, kBlockQ]
  Bits16* probabilities[2];  // [kTilesPerValues * kTileKeys / 32, kBlockQ / 16]: right tiles.
  float* out;                // [width, kBlockQ]
  Softmax<float> softmax;
  QueryLanes<float>* lanes;
};

inline ForwardMemory LayOut(const Problem& p, Arena* arena) {
  const int64_t width = PaddedWidth(p);
  ForwardMemory m;
  m.staging.floats = arena->Take<float>(kBlockQ * width);
  m.staging.rows = arena->Take<Bits16>(kBlockSide * width);
  m.q = arena->Take<Bits16>(kBlockQ * width);
  for (int i = 0; i < 2; ++i) {
    m.scores[i] = arena->Take<float>(kTileKeys * kBlockQ);
    m.probabilities[i] = arena->Take<Bits16>(kTilesPerValues * kTileKeys * kBlockQ);
  }
  m.out = arena->Take<float>(width * kBlockQ);
  m.softmax = {arena->Take<float>(kBlockQ), arena->Take<float>(kBlockQ),
               arena->Take<float>(kBlockQ)};
  m.lanes = arena->Take<QueryLanes<float>>(1);
  return m;
}

inline int64_t ForwardScratchBytes(const Problem& p) {
  Arena arena(nullptr);
  LayOut(p, &arena);
  return arena.used();
}

// Where the tiles of k or v of one key head start.
inline int64_t PackedHead(const Problem& p, int64_t batch, int64_t kv_head) {
  return (batch * p.num_kv_heads + kv_head) * KeyTiles(p) * kTileKeys * PaddedWidth(p);
}

inline void PackKeysTask(const Problem& p, const ForwardTensors& t, const Bf16ForwardPlan& plan,
                         int64_t task, void* scratch) {
  Arena arena(scratch);
  const Staging staging = LayOut(p, &arena).staging;
  const int64_t width = PaddedWidth(p), head = task / KeyTiles(p);
  const int64_t batch = head / p.num_kv_heads, kv_head = head % p.num_kv_heads;
  const int64_t first = task % KeyTiles(p) * kTileKeys;
  const int64_t count = p.seq_k - first < kTileKeys ? p.seq_k - first : kTileKeys;
  const int64_t offset = task * kTileKeys * width;
  float square = 0;
  const auto stage = [&](bool rope, const void* array, auto use) {
    StageKeys(p, t.extras, rope, batch, kv_head, first, count, array, staging, use);
  };
  stage(true, t.k, [&](int64_t r, int64_t rows) {
    const float largest = LargestSquare(staging.rows, rows, width);
    square = square >= largest ? square : largest;
    PackLeft(staging.rows, width, plan.keys.k + offset + r * width, kTileSide * width);
  });
  stage(false, t.v, [&](int64_t r, int64_t) {
    if (!AllFinite(staging.rows, width)) *plan.has_infinity = true;
    PackLeftTransposed(staging.rows, width, plan.keys.v + offset + r * width);
  });
  plan.keys.squares[task] = square;
}

// A task of the forward pass as it goes through its tiles.
class ForwardPipeline {
 public:
  ForwardPipeline(const Problem& p, const ForwardTensors& t, const Bf16ForwardPlan& plan,
                  const QueryBlock& block, int64_t kv_head, const ForwardMemory& memory)
      : p_(p),
        plan_(plan),
        block_(block),
        m_(memory),
        options_(MakeScoreOptions<float>(p, t.extras, block.batch)),
        width_(PaddedWidth(p)),
        columns_(CeilDiv(NumRows(block), kBlockSide)),
        k_(plan.keys.k + PackedHead(p, block.batch, kv_head)),
        v_(plan.keys.v + PackedHead(p, block.batch, kv_head)),
        squares_(plan.keys.squares + (block.batch * p.num_kv_heads + kv_head) * KeyTiles(p)) {
    StageQueries(p, t.extras, true, block, t.q, m_.staging, [&](int64_t r, int64_t rows) {
      const float largest = LargestSquare(m_.staging.rows, rows, width_);
      q_square_ = q_square_ >= largest ? q_square_ : largest;
      PackRight(m_.staging.rows, width_, m_.q + r * kTileDepth, kColumnTiles * kTileSize);
    });
    DescribeLanes(p, t.extras, block, Lanes(), m_.lanes);
    ResetSoftmax(kBlockQ, m_.softmax);
  }

  // Goes through all keys; leaves sums in memory.out.
  void Run() {
    const Span seen = VisibleKeys(p_, plan_.segments, block_.batch, Queries(block_));
    end_tile_ = CeilDiv(seen.end, kTileKeys);
    KeyTile next = NextTile(seen.begin / kTileKeys);
    if (next.index < end_tile_) PushScores(next, 0);
    queue_.Drain();
    for (int parity = 0; next.index < end_tile_; parity ^= 1) {
      const KeyTile tile = next;
      next = NextTile(tile.index + 1);
      PushValues();
      if (next.index < end_tile_) PushScores(next, parity ^ 1);
      Exponentiate(tile, m_.scores[parity]);
      queue_.Drain();
      if (pending_ == kTilesPerValues || next.index != tile.index + 1) ClosePending();
    }
    FinishValues();
    if (!has_values_) std::memset(m_.out, 0, width_ * kBlockQ * sizeof(float));
  }

  int64_t Lanes() const { return columns_ * kBlockSide; }

 private:
  static constexpr int64_t kColumnTiles = kBlockQ / kTileSide;

  struct KeyTile {
    int64_t index;
    int64_t num_keys;
    bool is_masked;
  };

  // The first tile from `index` on that is not empty.
  KeyTile NextTile(int64_t index) const {
    for (; index < end_tile_; ++index) {
      const int64_t first = index * kTileKeys;
      const int64_t end = first + kTileKeys < p_.seq_k ? first + kTileKeys : p_.seq_k;
      const TileKind kind =
          ClassifyTile(p_, plan_.segments, block_.batch, Queries(block_), {first, end});
      if (kind != TileKind::kEmpty) return {index, end - first, kind == TileKind::kPartial};
    }
    return {end_tile_, 0, false};
  }

  void PushScores(const KeyTile& tile, int parity) {
    const int64_t blocks = CeilDiv(tile.num_keys, kBlockSide);
    queue_.Push({k_ + tile.index * kTileKeys * width_, kTileSide * width_, kTileSize, m_.q,
                 kColumnTiles * kTileSize, kTileSize, m_.scores[parity], kBlockQ, columns_,
                 width_ / kTileDepth, false, 0, blocks * columns_});
  }

  // Scores within kPairsLimit of the shift, whatever the directions of q and k.
  bool IsBounded(const KeyTile& tile) const {
    const float bound =
        std::abs(options_.product_factor) * std::sqrt(q_square_ * squares_[tile.index]);
    return bound + largest_shift_ < kPairsLimit;
  }

  void Exponentiate(const KeyTile& tile, float* scores) {
    const Tile described = {tile.index * kTileKeys, tile.num_keys, Lanes(), kBlockQ,
                            tile.is_masked};
    const int64_t depth = CeilDiv(tile.num_keys, kTileDepth);
    const bool is_plain = !NeedsFinish(options_, described) && !options_.has_dropout;
    const bool is_fast = is_plain && tile.num_keys == kTileKeys && IsBounded(tile);
    if (!is_fast) ExponentiateAny(described, scores);
    if (pending_ == 0) first_pending_ = tile.index;
    Bits16* out = m_.probabilities[side_] + pending_depth_ * kColumnTiles * kTileSize;
    if (is_fast) {
      if (!has_seen_all_) ShiftFromZero();
      const auto exponentiate = columns_ == 2 ? ExponentiateTile<4> : ExponentiateTile<2>;
      exponentiate(scores, tile.num_keys, options_.product_factor, m_.softmax, out, &queue_);
    } else {
      std::memset(scores + tile.num_keys * kBlockQ, 0,
                  (depth * kTileDepth - tile.num_keys) * kBlockQ * sizeof(float));
      PackPairs(scores, depth * kTileDepth, Lanes(), out);
    }
    ++pending_;
    pending_depth_ += depth;
  }

  // Queries that have seen nothing yet start with shift 0.
  void ShiftFromZero() {
    for (int64_t lane = 0; lane < Lanes(); lane += kTileSide) {
      float* shift = m_.softmax.shift + lane;
      Store(Load(m_.softmax.sum + lane) == 0.0f ? Vec<float>{} : Load(shift), shift);
    }
    has_seen_all_ = true;
  }

  // With all features, masks and ranges of scores.
  void ExponentiateAny(const Tile& tile, float* scores) {
    FinishScores(options_, *m_.lanes, tile, options_.product_factor, scores);
    if (UpdateSoftmax(scores, tile.num_keys, Lanes(), m_.softmax)) Rescale();
    if (options_.has_dropout) DropProbabilities(options_, *m_.lanes, tile, scores);
    largest_shift_ = 0;
    for (int64_t i = 0; i < Lanes(); ++i) {
      const float size = std::abs(m_.softmax.shift[i]);
      if (m_.softmax.sum[i] != 0 && !(size <= largest_shift_)) largest_shift_ = size;
    }
  }

  // Brings all that has been summed up to the new shifts.
  void Rescale() {
    queue_.Drain();
    FinishValues();
    if (!has_values_) return;
    for (int64_t c = 0; c < width_; ++c) {
      for (int64_t lane = 0; lane < Lanes(); lane += kTileSide) {
        float* out = m_.out + c * kBlockQ + lane;
        Store(Load(out) * Load(m_.softmax.rescale + lane), out);
      }
    }
  }

  // Makes the probabilities of the pending tiles a product, and the other memory the next ones'.
  void ClosePending() {
    while (values_.begin_block < values_.end_block) PushValues();
    queue_.Drain();
    if (pending_ == 0) return;
    values_ = {v_ + first_pending_ * kTileKeys * width_,
               kTileSize,
               kTileDepth * width_,
               m_.probabilities[side_],
               kColumnTiles * kTileSize,
               kTileSize,
               m_.out,
               kBlockQ,
               columns_,
               pending_depth_,
               has_values_,
               0,
               width_ / kBlockSide * columns_};
    has_values_ = true;
    side_ ^= 1;
    pending_ = pending_depth_ = 0;
  }

  // Pushes a share of the product with v.
  void PushValues() {
    const int64_t share = CeilDiv(width_ / kBlockSide * columns_, kTilesPerValues);
    const int64_t left = values_.end_block - values_.begin_block;
    Product part = values_;
    part.end_block = part.begin_block + (share < left ? share : left);
    queue_.Push(part);
    values_.begin_block = part.end_block;
  }

  void FinishValues() {
    ClosePending();
    ClosePending();
  }

  const Problem& p_;
  const Bf16ForwardPlan& plan_;
  const QueryBlock block_;
  const ForwardMemory& m_;
  const ScoreOptions<float> options_;
  const int64_t width_, columns_;
  const Bits16 *k_, *v_;
  const float* squares_;
  float q_square_ = 0;
  float largest_shift_ = 0;
  bool has_seen_all_ = false;
  int64_t end_tile_ = 0;
  ProductQueue queue_;
  Product values_ = {};  // What is left to do.
  bool has_values_ = false;
  // Tiles of probabilities that no product has taken yet.
  int64_t first_pending_ = 0, pending_ = 0, pending_depth_ = 0;
  int side_ = 0;
};

// Writes out, normalised, and lse.
inline void WriteOut(const Problem& p, const ForwardTensors& t, const QueryBlock& block,
                     int64_t lanes, const ForwardMemory& m) {
  FinishSoftmax(lanes, static_cast<float>(1 / (1 - p.dropout_rate)), m.softmax);
  const int64_t width = PaddedWidth(p);
  float* rows = m.staging.floats;  // [kBlockQ, width]
  for (int64_t lane = 0; lane < lanes; lane += kTileSide) {
    const Vec<float> factor = Load(m.softmax.rescale + lane);
    for (int64_t c = 0; c < width; c += kTileSide) {
      Vec<float> square[kTileSide];
      for (int64_t i = 0; i < kTileSide; ++i) {
        // Where nothing is seen, masked values must not get in, NaN times zero.
        const Vec<float> sum = Load(m.out + (c + i) * kBlockQ + lane);
        square[i] = factor == 0.0f ? Vec<float>{} : sum * factor;
      }
      Transpose<float>(square);
      for (int64_t i = 0; i < kTileSide; ++i) Store(square[i], rows + (lane + i) * width + c);
    }
  }
  UnpackBlock<BFloat16>(p, block, rows, width, 1.0f, t.out);
  for (int64_t r = 0; r < NumRows(block); ++r) {
    float* lse = static_cast<float*>(t.lse) + LaneOffset(p, block, r / block.count);
    lse[r % block.count] = LogSumExp(m.softmax, r);
  }
}

inline void ForwardTask(const Problem& p, const ForwardTensors& t, const Bf16ForwardPlan& plan,
                        int64_t task, void* scratch) {
  [[maybe_unused]] const MatrixUnit unit{};
  Arena arena(scratch);
  const ForwardMemory memory = LayOut(p, &arena);
  const int64_t kv_head = task / plan.blocks.count % p.num_kv_heads;
  const int64_t batch = task / plan.blocks.count / p.num_kv_heads;
  // Under a causal mask the last queries have the most keys: starting with them evens out the
  // threads.
  const int64_t index = plan.blocks.count - 1 - task % plan.blocks.count;
  const QueryBlock block = BlockAt(p, plan.blocks, batch, kv_head, index);
  ForwardPipeline pipeline(p, t, plan, block, kv_head, memory);
  pipeline.Run();
  WriteOut(p, t, block, pipeline.Lanes(), memory);
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_BF16_FORWARD_INL_H_
