// What the passes over a chunk share. Compiled once per instruction set (simd-inl.h).
//
// Weights within a chunk are held transposed, [key, query], with the queries along the vector
// lanes; everything else has a row a token or, in a state, a row a channel of the keys.
#ifndef KERNELS_LINEAR_ATTENTION_CPU_CHUNK_INL_H_
#define KERNELS_LINEAR_ATTENTION_CPU_CHUNK_INL_H_

#include "kernels/linear_attention/cpu_tasks.h"
#include "kernels/native/tiles-inl.h"

namespace kernels::linear_attention {
namespace KERNELS_ISA {

using namespace kernels::KERNELS_ISA;

constexpr double kLog2E = 1.4426950408889634;

// Causality hides half of a chunk's weights. Products leave out those that lie outside of the
// squares of this many tokens along the diagonal. A multiple of all vector lengths.
constexpr int64_t kPart = 32;

constexpr int64_t kPowersSize = 2 * kChunk + kPadding;

inline int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }

// One chunk of one head, and where its rows are.
struct Chunk {
  int64_t batch, head, kv_head;
  int64_t index, first, count;  // Of the chunk; of its tokens.
  int64_t row;                  // Of (batch, head).
};

inline Chunk LocateChunk(const Problem& p, int64_t row, int64_t index) {
  const int64_t head = row % p.num_heads, first = index * kChunk;
  return {row / p.num_heads,
          head,
          head / (p.num_heads / p.num_kv_heads),
          index,
          first,
          Min(kChunk, p.seq_len - first),
          row};
}

// The first element of a chunk in an array [batch, seq_len, heads, dim].
inline int64_t Offset(const Problem& p, const Chunk& chunk, int64_t head, int64_t heads,
                      int64_t dim) {
  return ((chunk.batch * p.seq_len + chunk.first) * heads + head) * dim;
}

template <typename T>
T* Slot(const Problem& p, void* slots, int64_t row, int64_t index) {
  return static_cast<T*>(slots) + (row * (NumChunks(p) + 1) + index) * StateSize(p);
}

// The powers n of a head's decay, for n from -kChunk to kChunk; those below 0 are 0, which is the
// weight of a later token. All are 1 where causality does not order the tokens.
template <typename T>
const T* FillPowers(const Problem& p, const void* decay, int64_t row, T* memory) {
  const bool decays = p.causal && decay != nullptr;
  const double base = decays ? static_cast<double>(static_cast<const T*>(decay)[row]) : 1.0;
  double power = 1.0;
  std::memset(memory, 0, kChunk * sizeof(T));
  for (int64_t n = 0; n <= kChunk; ++n, power *= base) memory[kChunk + n] = static_cast<T>(power);
  return memory + kChunk;
}

template <typename T>
inline Vec<T> LoadUnaligned(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

template <typename T>
T Dot(const T* a, const T* b, int64_t count) {
  Vec<T> sum{};
  for (int64_t c = 0; c < count; c += kLanes<T>) sum = MultiplyAdd(Load(a + c), Load(b + c), sum);
  T total = 0;
  for (int lane = 0; lane < kLanes<T>; ++lane) total += sum[lane];
  return total;
}

// out += factor * in.
template <typename T>
void AddRow(T factor, const T* in, int64_t count, T* out) {
  const Vec<T> factors = Broadcast(factor);
  for (int64_t c = 0; c < count; c += kLanes<T>) {
    Store(MultiplyAdd(factors, Load(in + c), Load(out + c)), out + c);
  }
}

// Row r of the output is factors[r * step] times that of the input; they may be the same tile.
template <typename T>
void ScaleRows(const T* in, int64_t stride, int64_t rows, const T* factors, int64_t step, T* out) {
  for (int64_t r = 0; r < rows; ++r) {
    const Vec<T> factor = Broadcast(factors[r * step]);
    for (int64_t c = 0; c < stride; c += kLanes<T>) {
      Store(Load(in + r * stride + c) * factor, out + r * stride + c);
    }
  }
}

// A NaN stays one.
template <typename T>
inline Vec<T> Feature(FeatureMap map, Vec<T> x) {
  switch (map) {
    case FeatureMap::kElu:
      return x > T{0} ? x + T{1} : Exp2(x * static_cast<T>(kLog2E));
    case FeatureMap::kRelu:
      return x < T{0} ? Vec<T>{} : x;
    case FeatureMap::kIdentity:
      break;
  }
  return x;
}

// The derivative of a feature, from the feature.
template <typename T>
inline Vec<T> FeatureSlope(FeatureMap map, Vec<T> feature) {
  const Vec<T> one = Broadcast(T{1});
  switch (map) {
    case FeatureMap::kElu:
      return feature > T{1} ? one : feature;
    case FeatureMap::kRelu:
      return feature > T{0} ? one : Vec<T>{};
    case FeatureMap::kIdentity:
      break;
  }
  return one;
}

// The features of rows [count, dim] of an array, in a tile of `padded_rows` rows.
template <typename In, typename T>
void LoadFeatures(FeatureMap map, const In* in, int64_t in_stride, int64_t count, int64_t dim,
                  int64_t padded_rows, T* tile) {
  const int64_t stride = RoundUp(dim, kPadding);
  PackRows(in, in_stride, count, dim, tile, stride, padded_rows);
  if (map == FeatureMap::kIdentity) return;
  for (int64_t r = 0; r < count; ++r) {
    T* row = tile + r * stride;
    for (int64_t c = 0; c < dim; c += kLanes<T>) Store(Feature<T>(map, Load(row + c)), row + c);
    for (int64_t c = dim; c < stride; ++c) row[c] = 0;
  }
}

// grad *= derivative of the features.
template <typename T>
void MultiplySlopes(FeatureMap map, const T* features, int64_t count, T* grad) {
  if (map == FeatureMap::kIdentity) return;
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    Store(Load(grad + i) * FeatureSlope<T>(map, Load(features + i)), grad + i);
  }
}

template <typename In, typename T>
void LoadQueries(const Problem& p, const void* q, const Chunk& chunk, T* rows) {
  LoadFeatures(p.feature_map,
               static_cast<const In*>(q) + Offset(p, chunk, chunk.head, p.num_heads, p.key_dim),
               p.num_heads * p.key_dim, chunk.count, p.key_dim, kChunk, rows);
}

template <typename In, typename T>
void LoadKeysAndValues(const Problem& p, const void* k, const void* v, const Chunk& chunk,
                       T* k_rows, T* v_rows) {
  const int64_t heads = p.num_kv_heads;
  LoadFeatures(p.feature_map,
               static_cast<const In*>(k) + Offset(p, chunk, chunk.kv_head, heads, p.key_dim),
               heads * p.key_dim, chunk.count, p.key_dim, chunk.count, k_rows);
  PackRows(static_cast<const In*>(v) + Offset(p, chunk, chunk.kv_head, heads, p.value_dim),
           heads * p.value_dim, chunk.count, p.value_dim, v_rows, RoundUp(p.value_dim, kPadding),
           chunk.count);
}

// weights[j][i] = rows[j] . columns[:, i] for the tokens i of j's part and after it.
template <typename T>
void Weigh(int64_t count, const T* rows, int64_t stride, int64_t depth, const T* columns,
           T* weights) {
  const int64_t lanes = RoundUp(count, kLanes<T>);
  for (int64_t j = 0; j < count; j += kPart) {
    Multiply<Previous::kOverwrite, T>({rows + j * stride, stride, 1}, Min(kPart, count - j), depth,
                                      columns + j, kChunk, (lanes - j) / kLanes<T>,
                                      weights + j * kChunk + j, kChunk);
  }
}

// Multiplies weights by the power that belongs to their distance, and hides later tokens.
template <typename T>
void DecayWeights(int64_t count, const T* powers, T* weights) {
  for (int64_t j = 0; j < count; ++j) {
    T* row = weights + j * kChunk;
    for (int64_t i = j / kLanes<T> * kLanes<T>; i < count; i += kLanes<T>) {
      Store(Load(row + i) * LoadUnaligned(powers + i - j), row + i);
    }
    // Not a product with 0: what is hidden may be NaN.
    for (int64_t i = j / kPart * kPart; i < j; ++i) row[i] = 0;
  }
}

// out[i] += sum over j <= i of weights[j][i] in[j].
//
// A product gives later tokens a weight of 0, and 0 times infinity is NaN. So where a part is not
// finite, its tokens are added one by one, to those alone that see them; likewise below.
template <typename T>
void AddPast(int64_t count, const T* weights, const T* in, int64_t stride, T* out) {
  for (int64_t i = 0; i < count; i += kPart) {
    const int64_t end = Min(i + kPart, count);
    const bool is_finite = AllFinite(in + i * stride, end - i, stride);
    Multiply<Previous::kAdd, T>({weights + i, 1, kChunk}, end - i, is_finite ? end : i, in, stride,
                                stride / kLanes<T>, out + i * stride, stride);
    for (int64_t r = i; !is_finite && r < end; ++r) {
      for (int64_t j = i; j <= r; ++j) {
        AddRow(weights[j * kChunk + r], in + j * stride, stride, out + r * stride);
      }
    }
  }
}

// out[j] += sum over i >= j of weights[j][i] in[i].
template <typename T>
void AddFuture(int64_t count, const T* weights, const T* in, int64_t stride, T* out) {
  for (int64_t j = 0; j < count; j += kPart) {
    const int64_t end = Min(j + kPart, count);
    const bool is_finite = AllFinite(in + j * stride, end - j, stride);
    for (int64_t r = j; !is_finite && r < end; ++r) {
      for (int64_t i = r; i < end; ++i) {
        AddRow(weights[r * kChunk + i], in + i * stride, stride, out + r * stride);
      }
    }
    const int64_t first = is_finite ? j : end;
    Multiply<Previous::kAdd, T>({weights + j * kChunk + first, kChunk, 1}, end - j, count - first,
                                in + first * stride, stride, stride / kLanes<T>, out + j * stride,
                                stride);
  }
}

// out = sum over the tokens of rows_k[i]^T rows_v[i], in the form of a state whose last row is the
// sum of last[i] * rows_k[i]; last null: 1.
template <typename T>
void SumOuterProducts(const Problem& p, int64_t count, const T* rows_k, const T* rows_v,
                      const T* last, T* out) {
  const int64_t padded_k = RoundUp(p.key_dim, kPadding), padded_v = RoundUp(p.value_dim, kPadding);
  Multiply<Previous::kOverwrite, T>({rows_k, 1, padded_k}, p.key_dim, count, rows_v, padded_v,
                                    padded_v / kLanes<T>, out, padded_v);
  std::memset(out + p.key_dim * padded_v, 0, (padded_k - p.key_dim) * padded_v * sizeof(T));
  T* sums = out + padded_k * padded_v;
  std::memset(sums, 0, padded_k * sizeof(T));
  for (int64_t i = 0; i < count; ++i) {
    AddRow(last == nullptr ? T{1} : last[i], rows_k + i * padded_k, padded_k, sums);
  }
}

// What a chunk adds to the state. Scales k_rows in place.
template <typename T>
void UpdateOfChunk(const Problem& p, const Chunk& chunk, const T* powers, T* k_rows,
                   const T* v_rows, T* update) {
  const int64_t padded_k = RoundUp(p.key_dim, kPadding);
  ScaleRows(k_rows, padded_k, chunk.count, powers + chunk.count - 1, -1, k_rows);
  SumOuterProducts<T>(p, chunk.count, k_rows, v_rows, nullptr, update);
}

// out = power * state + update, of elements [begin, end).
template <typename T>
void Advance(T power, const T* state, const T* update, int64_t begin, int64_t end, T* out) {
  const Vec<T> powers = Broadcast(power);
  for (int64_t i = begin; i < end; i += kLanes<T>) {
    Store(MultiplyAdd(powers, Load(state + i), Load(update + i)), out + i);
  }
}

// Copies the state of one head from its arrays; null: zeros.
template <typename T>
void LoadState(const Problem& p, const void* kv, const void* k_sum, int64_t row, T* state) {
  const int64_t padded_v = RoundUp(p.value_dim, kPadding);
  T* sums = state + RoundUp(p.key_dim, kPadding) * padded_v;
  std::memset(state, 0, StateSize(p) * sizeof(T));
  if (kv == nullptr) return;
  const T* in = static_cast<const T*>(kv) + row * p.key_dim * p.value_dim;
  for (int64_t d = 0; d < p.key_dim; ++d) {
    std::memcpy(state + d * padded_v, in + d * p.value_dim, p.value_dim * sizeof(T));
  }
  std::memcpy(sums, static_cast<const T*>(k_sum) + row * p.key_dim, p.key_dim * sizeof(T));
}

// Copies the state of one head to its arrays; null: not wanted.
template <typename T>
void StoreState(const Problem& p, const T* state, int64_t row, void* kv, void* k_sum) {
  if (kv == nullptr) return;
  const int64_t padded_v = RoundUp(p.value_dim, kPadding);
  T* out = static_cast<T*>(kv) + row * p.key_dim * p.value_dim;
  for (int64_t d = 0; d < p.key_dim; ++d) {
    std::memcpy(out + d * p.value_dim, state + d * padded_v, p.value_dim * sizeof(T));
  }
  std::memcpy(static_cast<T*>(k_sum) + row * p.key_dim,
              state + RoundUp(p.key_dim, kPadding) * padded_v, p.key_dim * sizeof(T));
}

}  // namespace KERNELS_ISA
}  // namespace kernels::linear_attention

#endif  // KERNELS_LINEAR_ATTENTION_CPU_CHUNK_INL_H_
