// What the features of a problem do to one tile of scores. Compiled once per instruction set
// (simd-inl.h), for T = float and double.
//
// A tile is [key, query] with the queries along the vector lanes: element (j, lane) is at
// scores[j * tile.stride + lane], rows are aligned to kVectorBytes. All that depends on the query
// comes from QueryLanes, set up once per block of queries; so the lanes of a block need not be
// consecutive queries, nor of one head. How a caller goes on:
//
//   once per task        options = MakeScoreOptions<T>(problem, extras)
//   per block of queries SetQueryLane for each lane, HideQueryLanes for the padding
//   per tile             kind = ClassifyTile(...); skip it if kEmpty; is_masked: it is kPartial
//   forward              product q k^T -> NeedsFinish? FinishScores -> scores in units of log2,
//                        -inf where hidden; 2^(score - max), sums; has_dropout? DropProbabilities
//                        -> product with v; the output is divided by sum * (1 - dropout_rate)
//   backward             products q k^T and v grad_out^T -> DifferentiateScores
//
// The product must arrive multiplied by options.product_factor: either q is, or the caller passes
// what is missing as `factor`. A tile that needs nothing (NeedsFinish is false) is in units of log2
// as it is.
#ifndef KERNELS_ATTENTION_CPU_SCORES_INL_H_
#define KERNELS_ATTENTION_CPU_SCORES_INL_H_

#include "kernels/attention/cpu_tasks.h"
#include "kernels/attention/cpu_visibility.h"
#include "kernels/attention/dropout.h"
#include "kernels/native/simd-inl.h"

namespace kernels::attention {
namespace KERNELS_ISA {

using namespace kernels::KERNELS_ISA;

constexpr double kLog2E = 1.4426950408889634;
constexpr double kLn2 = 0.6931471805599453;
constexpr double kInfinity = __builtin_inf();

// An integer as wide as T, so that one vector of each belongs together.
template <typename T>
using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
template <typename T>
using Unsigned = std::make_unsigned_t<Int<T>>;

// The features, for all tiles of a problem.
template <typename T>
struct ScoreOptions {
  T product_factor;  // See above.
  T softcap;         // In units of log2; 0: none.
  bool has_softcap;
  bool has_alibi;
  bool has_segments;
  bool has_dropout;
  uint32_t dropout_threshold;
  T dropout_factor;  // 1 / (1 - dropout_rate).
  const int32_t* kv_segments;
};

// `batch` selects the row of kv_segments.
template <typename T>
ScoreOptions<T> MakeScoreOptions(const Problem& p, const Extras& extras, int64_t batch) {
  ScoreOptions<T> o{};
  o.has_softcap = p.softcap > 0;
  o.product_factor = static_cast<T>(p.softmax_scale * (o.has_softcap ? 1 / p.softcap : kLog2E));
  o.softcap = static_cast<T>(p.softcap * kLog2E);
  o.has_alibi = extras.alibi_slopes != nullptr;
  o.has_segments = extras.kv_segments != nullptr;
  o.has_dropout = p.dropout_rate > 0;
  o.dropout_threshold = DropoutThreshold(p.dropout_rate);
  o.dropout_factor = static_cast<T>(1 / (1 - p.dropout_rate));
  o.kv_segments = o.has_segments ? extras.kv_segments + batch * p.seq_k : nullptr;
  return o;
}

// What the features need to know of each query of a block.
template <typename T>
struct QueryLanes {
  alignas(64) Int<T> position[kBlockQ];
  alignas(64) Int<T> first_key[kBlockQ];  // Its window: the keys first_key .. last_key.
  alignas(64) Int<T> last_key[kBlockQ];
  alignas(64) Int<T> segment[kBlockQ];
  alignas(64) Int<T> dropout_key[kBlockQ];
  alignas(64) T slope[kBlockQ];  // ALiBi's, in units of log2.
};

// Describes query `query` of head `head` in `lane`.
template <typename T>
void SetQueryLane(const Problem& p, const Extras& extras, int64_t batch, int64_t head,
                  int64_t query, int64_t lane, QueryLanes<T>* lanes) {
  const int64_t position = query + p.seq_k - p.seq_q;
  const int64_t first = position - WindowLeft(p), last = position + WindowRight(p);
  lanes->position[lane] = static_cast<Int<T>>(position);
  lanes->first_key[lane] = static_cast<Int<T>>(first < 0 ? 0 : first);
  lanes->last_key[lane] = static_cast<Int<T>>(last < p.seq_k ? last : p.seq_k - 1);
  if (extras.q_segments != nullptr) {
    lanes->segment[lane] = extras.q_segments[batch * p.seq_q + query];
  }
  if (extras.alibi_slopes != nullptr) {
    const T* slopes = static_cast<const T*>(extras.alibi_slopes);
    lanes->slope[lane] = slopes[batch * p.num_heads + head] * static_cast<T>(kLog2E);
  }
  if (extras.dropout_seeds != nullptr) {
    const uint32_t head_key =
        DropoutHeadKey(extras.dropout_seeds[batch], static_cast<uint32_t>(head));
    lanes->dropout_key[lane] =
        static_cast<Unsigned<T>>(DropoutQueryKey(head_key, static_cast<uint32_t>(query)));
  }
}

// Lets the lanes [begin, end) see no key.
template <typename T>
void HideQueryLanes(int64_t begin, int64_t end, QueryLanes<T>* lanes) {
  for (int64_t lane = begin; lane < end; ++lane) {
    lanes->position[lane] = lanes->first_key[lane] = lanes->segment[lane] = 0;
    lanes->last_key[lane] = -1;
    lanes->dropout_key[lane] = 0;
    lanes->slope[lane] = 0;
  }
}

struct Tile {
  int64_t first_key;
  int64_t num_keys;
  int64_t lanes;  // The lanes [first_lane, lanes), multiples of kLanes.
  int64_t stride;
  bool is_masked;  // Some lanes may not see some keys.
  int64_t first_lane = 0;
};

// Whether FinishScores changes anything, for a factor of 1.
template <typename T>
bool NeedsFinish(const ScoreOptions<T>& o, const Tile& tile) {
  return tile.is_masked || o.has_softcap || o.has_alibi;
}

template <typename T>
inline Vec<Int<T>> Distance(Vec<Int<T>> position, int64_t key) {
  const Vec<Int<T>> d = position - static_cast<Int<T>>(key);
  return d < 0 ? -d : d;
}

// Of the lanes from `lane` on: those that see key `key`, as a mask of ones and zeros.
template <typename T>
inline Vec<Int<T>> Sees(const ScoreOptions<T>& o, const QueryLanes<T>& lanes, int64_t lane,
                        int64_t key) {
  const Int<T> j = static_cast<Int<T>>(key);
  Vec<Int<T>> seen = (Load(lanes.first_key + lane) <= j) & (Load(lanes.last_key + lane) >= j);
  if (o.has_segments) {
    const Int<T> segment = o.kv_segments[key];
    if (segment < 0) return Vec<Int<T>>{};
    seen &= Load(lanes.segment + lane) == segment;
  }
  return seen;
}

// dropout.h's Mix, in every lane; 64-bit lanes hold 32 bits.
template <typename V>
inline V MixLanes(V x) {
  constexpr uint32_t kBits = 0xffffffffu;
  x = ((x ^ (x >> 16)) * 0x7feb352du) & kBits;
  x = ((x ^ (x >> 15)) * 0x846ca68bu) & kBits;
  return x ^ (x >> 16);
}

// A mask of the lanes that keep the probability of `key`.
template <typename T>
inline Vec<Int<T>> Keeps(const ScoreOptions<T>& o, const QueryLanes<T>& lanes, int64_t lane,
                         int64_t key) {
  using U = Vec<Unsigned<T>>;
  const U query_keys = reinterpret_cast<U>(Load(lanes.dropout_key + lane));
  const U bits = MixLanes(query_keys ^ Unsigned<T>{DropoutKeyKey(static_cast<uint32_t>(key))});
  return reinterpret_cast<Vec<Int<T>>>(bits >= Unsigned<T>{o.dropout_threshold});
}

// The same of one lane.
template <typename T>
inline bool SeesKey(const ScoreOptions<T>& o, const QueryLanes<T>& lanes, int64_t lane,
                    int64_t key) {
  if (lanes.first_key[lane] > key || lanes.last_key[lane] < key) return false;
  if (!o.has_segments) return true;
  return o.kv_segments[key] >= 0 && lanes.segment[lane] == o.kv_segments[key];
}

// The score of a key, given the scaled product; `capped`: tanh(product) if there is a softcap.
// Without the mask.
template <typename T>
inline Vec<T> ScoreOf(const ScoreOptions<T>& o, const QueryLanes<T>& lanes, int64_t lane,
                      int64_t key, Vec<T> product, Vec<T> capped) {
  Vec<T> score = o.has_softcap ? capped * o.softcap : product;
  if (o.has_alibi) {
    const Vec<Int<T>> distance = Distance<T>(Load(lanes.position + lane), key);
    score -= Load(lanes.slope + lane) * __builtin_convertvector(distance, Vec<T>);
  }
  return score;
}

// Turns products into scores in units of log2.
template <typename T>
void FinishScores(const ScoreOptions<T>& o, const QueryLanes<T>& lanes, const Tile& tile, T factor,
                  T* scores) {
  for (int64_t lane = tile.first_lane; lane < tile.lanes; lane += kLanes<T>) {
    for (int64_t j = 0; j < tile.num_keys; ++j) {
      const int64_t key = tile.first_key + j;
      T* s = scores + j * tile.stride + lane;
      const Vec<T> product = Load(s) * factor;
      const Vec<T> capped = o.has_softcap ? Tanh(product) : product;
      Vec<T> score = ScoreOf(o, lanes, lane, key, product, capped);
      if (tile.is_masked) {
        score = Sees(o, lanes, lane, key) ? score : Broadcast(static_cast<T>(-kInfinity));
      }
      Store(score, s);
    }
  }
}

// Sets the probabilities that dropout takes away to zero; the others stay as they are.
template <typename T>
void DropProbabilities(const ScoreOptions<T>& o, const QueryLanes<T>& lanes, const Tile& tile,
                       T* probabilities) {
  for (int64_t lane = tile.first_lane; lane < tile.lanes; lane += kLanes<T>) {
    for (int64_t j = 0; j < tile.num_keys; ++j) {
      T* p = probabilities + j * tile.stride + lane;
      Store(Keeps(o, lanes, lane, tile.first_key + j) ? Load(p) : Vec<T>{}, p);
    }
  }
}

// Per query of a block, what the gradient of the scores takes from the forward pass.
template <typename T>
struct RowTerms {
  const T* lse;    // In units of log2; 0 where a query sees nothing.
  const T* delta;  // sum(out * grad_out) - grad_lse.
  double* slopes;  // Where to add to the SlopeSums of each lane, or null.
};

// Of each query: the sums over keys of dS |d|, dS, P |d| and P, [kBlockQ] each. dS is the gradient
// of the scores, d the distance.
enum SlopeSum { kGradDistance, kGrad, kDistance, kProbability, kNumSlopeSums };
static_assert(kNumSlopeSums * sizeof(double) == kSlopeRows * sizeof(float));

template <typename T>
inline void AddLanes(Vec<T> x, double* sums) {
  for (int i = 0; i < kLanes<T>; ++i) sums[i] += x[i];
}

inline void AddSlopeSums(const double* more, double* sums) {
  for (int64_t i = 0; i < kNumSlopeSums * kBlockQ; ++i) sums[i] += more[i];
}

// What a query adds to the gradient of its head's slope: -sum(dS |d|). Exactly, P adds up to 1 and
// dS to the gradient of lse. What they really add up to is the rounding of lse, a factor of all P,
// and that of delta, which shifts each dS by a multiple of P. With large distances those would be
// most of the error: they are taken out.
inline double SlopeGradient(const double* sums, int64_t lane, double grad_lse) {
  const double total = sums[kProbability * kBlockQ + lane];
  if (total == 0) return 0;  // It sees nothing, and its grad_lse may be anything.
  const double excess = sums[kGrad * kBlockQ + lane] / total - grad_lse;
  return (sums[kDistance * kBlockQ + lane] * excess - sums[kGradDistance * kBlockQ + lane]) / total;
}

// From the scaled product q k^T in `scores` and v grad_out^T in `grad`: leaves the probabilities,
// after dropout, in `scores` and the gradient of softmax_scale * q k^T in `grad`.
template <typename T>
void DifferentiateScores(const ScoreOptions<T>& o, const QueryLanes<T>& lanes,
                         const RowTerms<T>& rows, const Tile& tile, T factor, T* scores, T* grad) {
  for (int64_t lane = tile.first_lane; lane < tile.lanes; lane += kLanes<T>) {
    const Vec<T> lse = Load(rows.lse + lane), delta = Load(rows.delta + lane);
    Vec<T> grad_distance_sum{}, grad_sum{}, distance_sum{}, probability_sum{};
    for (int64_t j = 0; j < tile.num_keys; ++j) {
      const int64_t key = tile.first_key + j;
      T* s = scores + j * tile.stride + lane;
      T* g = grad + j * tile.stride + lane;
      const Vec<T> product = Load(s) * factor;
      Vec<T> capped = o.has_softcap ? Tanh(product) : product;
      Vec<T> probability = Exp2(ScoreOf(o, lanes, lane, key, product, capped) - lse);
      Vec<T> grad_p = Load(g);
      Vec<Int<T>> seen{};
      if (tile.is_masked) {
        seen = Sees(o, lanes, lane, key);
        probability = seen ? probability : Vec<T>{};
        capped = seen ? capped : Vec<T>{};
      }
      Vec<T> dropped = probability;
      if (o.has_dropout) {
        const Vec<Int<T>> keeps = Keeps(o, lanes, lane, key);
        grad_p = keeps ? grad_p * o.dropout_factor : Vec<T>{};
        dropped = keeps ? probability * o.dropout_factor : Vec<T>{};
      }
      Vec<T> grad_score = probability * (grad_p - delta);
      // What a query does not see may be infinite or no number: times 0 that would be seen.
      if (tile.is_masked) grad_score = seen ? grad_score : Vec<T>{};
      if (rows.slopes != nullptr) {
        const Vec<T> distance =
            __builtin_convertvector(Distance<T>(Load(lanes.position + lane), key), Vec<T>);
        grad_distance_sum += grad_score * distance;
        grad_sum += grad_score;
        distance_sum += probability * distance;
        probability_sum += probability;
      }
      if (o.has_softcap) grad_score *= T{1} - capped * capped;
      Store(dropped, s);
      Store(grad_score, g);
    }
    if (rows.slopes != nullptr) {
      AddLanes<T>(grad_distance_sum, rows.slopes + kGradDistance * kBlockQ + lane);
      AddLanes<T>(grad_sum, rows.slopes + kGrad * kBlockQ + lane);
      AddLanes<T>(distance_sum, rows.slopes + kDistance * kBlockQ + lane);
      AddLanes<T>(probability_sum, rows.slopes + kProbability * kBlockQ + lane);
    }
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_CPU_SCORES_INL_H_
