// One panel of keys in the backward pass of the bfloat16 path. Compiled once per engine
// (bf16_tiles-inl.h).
//
// With P = softmax(S) recomputed from lse, and [key, query] tiles as in the forward pass:
//   S^T = k q^T        dP^T = v grad_out^T        dS = P * (dP - delta)
//   grad_v += P^T grad_out     grad_k += dS^T q     grad_q^T += k^T dS^T
//
// A step takes kStepTiles x kStepTiles tiles of scores. Its first two products are computed tile by
// tile, ahead of the vector work, and the other three, once its P and dS are complete, during the
// vector work of the next step.
#ifndef KERNELS_ATTENTION_CPU_BF16_PANEL_INL_H_
#define KERNELS_ATTENTION_CPU_BF16_PANEL_INL_H_

#include "kernels/attention/cpu_bf16_derivative-inl.h"
#include "kernels/attention/cpu_bf16_stage-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

// One block of queries as operands; see Bf16BackwardPlan.
struct PackedBlock {
  QueryBlock block;
  Bits16 *q, *grad;            // [width / 32, kBlockQ / 16]: right tiles for S and dP.
  Bits16 *q_rows, *grad_rows;  // [kBlockQ / 32, width / 16]: right tiles for grad_k and grad_v.
  float *lse, *delta;          // lse in units of log2.
  QueryLanes<float>* lanes;
};

inline PackedBlock PackedBlockAt(const Problem& p, const Bf16BackwardPlan& plan, int64_t head,
                                 int64_t index) {
  const int64_t number = head * plan.blocks.count + index;
  const int64_t tiles = number * kBlockQ * PaddedWidth(p);
  return {BlockAt(p, plan.blocks, head / p.num_kv_heads, head % p.num_kv_heads, index),
          plan.q + tiles,
          plan.grad + tiles,
          plan.q_rows + tiles,
          plan.grad_rows + tiles,
          plan.lse + number * kBlockQ,
          plan.delta + number * kBlockQ,
          static_cast<QueryLanes<float>*>(plan.lanes) + number};
}

struct BackwardMemory {
  Staging staging;
  Bits16 *k, *v, *k_columns;  // Of a panel: left tiles, the last of the transpose.
  float *grad_k, *grad_v;     // [keys of a panel, width]
  float* scores[2];           // [kTileKeys, kBlockQ]
  float* grads[2];            // dP, then dS.
  StepOperands operands[2];
  float* sums;  // [kStepTiles, width + kSlopeRows, kBlockQ]: grad_q and SlopeSums.
};

inline BackwardMemory LayOutBackward(const Problem& p, const Bf16BackwardPlan& plan, Arena* arena) {
  const int64_t width = PaddedWidth(p), panel = plan.keys_per_panel * width;
  BackwardMemory m;
  m.staging = {arena->Take<float>(kBlockQ * width), arena->Take<Bits16>(kBlockSide * width)};
  m.k = arena->Take<Bits16>(panel);
  m.v = arena->Take<Bits16>(panel);
  m.k_columns = arena->Take<Bits16>(panel);
  m.grad_k = arena->Take<float>(panel);
  m.grad_v = arena->Take<float>(panel);
  for (int i = 0; i < 2; ++i) {
    m.scores[i] = arena->Take<float>(kTileKeys * kBlockQ);
    m.grads[i] = arena->Take<float>(kTileKeys * kBlockQ);
    m.operands[i] = {arena->Take<Bits16>(kStepSize), arena->Take<Bits16>(kStepSize),
                     arena->Take<Bits16>(kStepSize)};
  }
  m.sums = arena->Take<float>(kStepTiles * (width + kSlopeRows) * kBlockQ);
  return m;
}

inline int64_t BackwardScratchBytes(const Problem& p, const Bf16BackwardPlan& plan) {
  Arena arena(nullptr);
  LayOutBackward(p, plan, &arena);
  return arena.used();
}

// After the grad_q of a block.
inline double* SlopeSumsOf(const Problem& p, float* sums) {
  return reinterpret_cast<double*>(sums + PaddedWidth(p) * kBlockQ);
}

// Writes grad_q and grad_slopes of a block from its sums, which it spoils.
inline void WriteGradQ(const Problem& p, const BackwardTensors& t, const QueryBlock& block,
                       float* sums, float* rows) {
  const int64_t width = PaddedWidth(p);
  TransposeTile(sums, kBlockQ, width, kBlockQ, 1.0f, rows, width);
  for (int64_t h = 0; h < block.num_heads; ++h) {
    RotateRows(p, t.extras, Turn::kInverse, FirstQueryRow(p) + block.first, block.count,
               rows + h * block.count * width, width);
  }
  UnpackBlock<BFloat16>(p, block, rows, width, static_cast<float>(p.softmax_scale), t.grad_q);
  WriteGradSlopes<float>(p, t, block, SlopeSumsOf(p, sums));
}

// A panel of keys of one key head and its way through all blocks of queries.
class BackwardPanel {
 public:
  BackwardPanel(const Problem& p, const BackwardTensors& t, const Bf16BackwardPlan& plan,
                int64_t head, int64_t chunk, Span keys, const BackwardMemory& memory)
      : p_(p),
        t_(t),
        plan_(plan),
        head_(head),
        chunk_(chunk),
        keys_(keys),
        m_(memory),
        options_(MakeScoreOptions<float>(p, t.extras, head / p.num_kv_heads)),
        width_(PaddedWidth(p)) {}

  void Run() {
    PackPanel();
    for (int64_t first = 0; first < plan_.blocks.count; first += kStepTiles) {
      LoadBlocks(first);
      for (int64_t key = keys_.begin; key < keys_.end; key += kStepTiles * kTileKeys) Step(key);
      Finish();
      for (int64_t j = 0; plan_.is_whole && j < num_blocks_; ++j) {
        WriteGradQ(p_, t_, blocks_[j].block, Sums(j), m_.staging.floats);
      }
    }
    WriteKeys();
  }

 private:
  struct SubTile {
    int64_t i, j;  // Which keys and which queries of the step.
    Tile tile;
  };

  void PackPanel() {
    const int64_t batch = head_ / p_.num_kv_heads, kv_head = head_ % p_.num_kv_heads;
    const int64_t count = keys_.end - keys_.begin;
    const int64_t padded = RoundUp(count, kStepTiles * kTileKeys) * width_;
    for (Bits16* tiles : {m_.k, m_.v, m_.k_columns}) {
      std::memset(tiles, 0, padded * sizeof(Bits16));
    }
    std::memset(m_.grad_k, 0, padded * sizeof(float));
    std::memset(m_.grad_v, 0, padded * sizeof(float));
    const auto stage = [&](bool rope, const void* array, auto use) {
      StageKeys(p_, t_.extras, rope, batch, kv_head, keys_.begin, count, array, m_.staging,
                [&](int64_t r, int64_t) {
                  if (!AllFinite(m_.staging.rows, width_)) *plan_.has_infinity = true;
                  use(r);
                });
    };
    stage(true, t_.k, [&](int64_t r) {
      PackLeft(m_.staging.rows, width_, m_.k + r * width_, kTileSide * width_);
      PackLeftTransposed(m_.staging.rows, width_, m_.k_columns + r * width_);
    });
    stage(false, t_.v, [&](int64_t r) {
      PackLeft(m_.staging.rows, width_, m_.v + r * width_, kTileSide * width_);
    });
  }

  void LoadBlocks(int64_t first) {
    first_block_ = first;
    num_blocks_ = plan_.blocks.count - first < kStepTiles ? plan_.blocks.count - first : kStepTiles;
    for (int64_t j = 0; j < num_blocks_; ++j) {
      blocks_[j] = PackedBlockAt(p_, plan_, head_, first + j);
    }
    if (plan_.is_whole) {
      std::memset(m_.sums, 0, num_blocks_ * (width_ + kSlopeRows) * kBlockQ * sizeof(float));
    }
  }

  // grad_q, transposed, and SlopeSums of a block.
  float* Sums(int64_t j) const {
    const int64_t size = (width_ + kSlopeRows) * kBlockQ;
    if (plan_.is_whole) return m_.sums + j * size;
    const int64_t heads = p_.batch * p_.num_kv_heads;
    const int64_t block = (chunk_ * heads + head_) * plan_.blocks.count + first_block_ + j;
    return plan_.partial + block * size;
  }

  // Keys of the step that starts at `key`, in tiles of kTileKeys.
  void Step(int64_t key) {
    SubTile tiles[kStepTiles * kStepTiles];
    bool is_empty[kStepTiles][kStepTiles];
    int64_t num_tiles = 0;
    for (int64_t i = 0; i < kStepTiles; ++i) {
      const int64_t begin = key + i * kTileKeys;
      const int64_t end = begin + kTileKeys < keys_.end ? begin + kTileKeys : keys_.end;
      for (int64_t j = 0; j < kStepTiles; ++j) {
        is_empty[i][j] = true;
        if (begin >= end || j >= num_blocks_) continue;
        const TileKind kind = ClassifyTile(p_, plan_.segments, head_ / p_.num_kv_heads,
                                           Queries(blocks_[j].block), {begin, end});
        if (kind == TileKind::kEmpty) continue;
        is_empty[i][j] = false;
        tiles[num_tiles++] = {
            i, j, {begin, end - begin, kBlockQ, kBlockQ, kind == TileKind::kPartial}};
      }
    }
    if (num_tiles == 0) return;
    const StepOperands& out = m_.operands[side_];
    for (int64_t i = 0; i < kStepTiles; ++i) {
      for (int64_t j = 0; j < kStepTiles; ++j) {
        if (is_empty[i][j]) ClearTile(i, j, out);
      }
    }
    PushScores(tiles[0], 0);
    queue_.Drain();
    for (int64_t n = 0; n < num_tiles; ++n) {
      if (n + 1 < num_tiles) PushScores(tiles[n + 1], (n + 1) % 2);
      PushGradient();
      Differentiate(tiles[n], m_.scores[n % 2], m_.grads[n % 2], out);
      queue_.Drain();
    }
    Finish();
    PlanGradients(key, out);
    side_ ^= 1;
  }

  void PushScores(const SubTile& s, int parity) {
    const int64_t keys = (s.tile.first_key - keys_.begin) * width_;
    const PackedBlock& b = blocks_[s.j];
    Product product = {m_.k + keys,
                       kTileSide * width_,
                       kTileSize,
                       b.q,
                       kQueryTiles * kTileSize,
                       kTileSize,
                       m_.scores[parity],
                       kBlockQ,
                       kQueryTiles / 2,
                       width_ / kTileDepth,
                       false,
                       0,
                       kTileKeys / kBlockSide * kQueryTiles / 2};
    queue_.Push(product);
    product.left = m_.v + keys;
    product.right = b.grad;
    product.out = m_.grads[parity];
    queue_.Push(product);
  }

  void Differentiate(const SubTile& s, float* scores, float* grads, const StepOperands& out) {
    const PackedBlock& b = blocks_[s.j];
    double* slopes = t_.grad_slopes == nullptr ? nullptr : SlopeSumsOf(p_, Sums(s.j));
    const RowTerms<float> rows = {b.lse, b.delta, slopes};
    const bool is_plain = !NeedsFinish(options_, s.tile) && !options_.has_dropout &&
                          slopes == nullptr && s.tile.num_keys == kTileKeys;
    if (is_plain) {
      DifferentiateTile(scores, grads, options_.product_factor, rows, s.i, s.j, out, &queue_);
      return;
    }
    DifferentiateScores(options_, *b.lanes, rows, s.tile, options_.product_factor, scores, grads);
    const int64_t unused = (kTileKeys - s.tile.num_keys) * kBlockQ * sizeof(float);
    std::memset(scores + s.tile.num_keys * kBlockQ, 0, unused);
    std::memset(grads + s.tile.num_keys * kBlockQ, 0, unused);
    PackDerivatives(scores, grads, s.i, s.j, out);
  }

  // Prepares the three products of a finished step.
  void PlanGradients(int64_t key, const StepOperands& operands) {
    const int64_t first = (key - keys_.begin) * width_;
    const int64_t blocks = kStepTiles * kTileKeys / kBlockSide, columns = width_ / kBlockSide;
    const int64_t depth = num_blocks_ * kBlockQ / kTileDepth;
    gradients_[num_gradients_++] = {operands.p,
                                    kStepDepth * kTileSize,
                                    kTileSize,
                                    blocks_[0].grad_rows,
                                    kTileDepth * width_,
                                    kTileSize,
                                    m_.grad_v + first,
                                    width_,
                                    columns,
                                    depth,
                                    true,
                                    0,
                                    blocks * columns};
    gradients_[num_gradients_++] = {operands.ds,
                                    kStepDepth * kTileSize,
                                    kTileSize,
                                    blocks_[0].q_rows,
                                    kTileDepth * width_,
                                    kTileSize,
                                    m_.grad_k + first,
                                    width_,
                                    columns,
                                    depth,
                                    true,
                                    0,
                                    blocks * columns};
    for (int64_t j = 0; j < num_blocks_; ++j) {
      gradients_[num_gradients_++] = {m_.k_columns + first,
                                      kTileSize,
                                      kTileDepth * width_,
                                      operands.ds_pairs + j * kQueryTiles * kTileSize,
                                      kStepTiles * kQueryTiles * kTileSize,
                                      kTileSize,
                                      Sums(j),
                                      kBlockQ,
                                      kQueryTiles / 2,
                                      kStepTiles * kTileKeys / kTileDepth,
                                      true,
                                      0,
                                      columns * kQueryTiles / 2};
    }
  }

  void PushGradient() {
    if (next_gradient_ < num_gradients_) queue_.Push(gradients_[next_gradient_++]);
  }

  void Finish() {
    while (next_gradient_ < num_gradients_) PushGradient();
    queue_.Drain();
    num_gradients_ = next_gradient_ = 0;
  }

  void WriteKeys() {
    const int64_t d = p_.head_dim, stride = p_.num_kv_heads * d, count = keys_.end - keys_.begin;
    const int64_t offset = ((head_ / p_.num_kv_heads * p_.seq_k + keys_.begin) * p_.num_kv_heads +
                            head_ % p_.num_kv_heads) *
                           d;
    RotateRows(p_, t_.extras, Turn::kInverse, FirstKeyRow(p_) + keys_.begin, count, m_.grad_k,
               width_);
    UnpackRows(m_.grad_k, width_, count, d, static_cast<float>(p_.softmax_scale),
               static_cast<BFloat16*>(t_.grad_k) + offset, stride);
    UnpackRows(m_.grad_v, width_, count, d, 1.0f, static_cast<BFloat16*>(t_.grad_v) + offset,
               stride);
  }

  const Problem& p_;
  const BackwardTensors& t_;
  const Bf16BackwardPlan& plan_;
  const int64_t head_, chunk_;
  const Span keys_;
  const BackwardMemory& m_;
  const ScoreOptions<float> options_;
  const int64_t width_;
  int64_t first_block_ = 0, num_blocks_ = 0;
  PackedBlock blocks_[kStepTiles];
  ProductQueue queue_;
  int side_ = 0;
  Product gradients_[2 + kStepTiles];
  int64_t num_gradients_ = 0, next_gradient_ = 0;
};

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_BF16_PANEL_INL_H_
