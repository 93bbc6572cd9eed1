// The random bits of dropout: a hash of (seed of the batch row, head, query, key), so that every
// backend, tiling and number of threads drops the same probabilities, forward and backward.
//
// (query, key) is dropped iff DropoutBits < DropoutThreshold(dropout_rate).
//
// Reference: the integer hash is lowbias32 of Wellons, "Prospecting for Hash Functions", 2018.
#ifndef KERNELS_ATTENTION_DROPOUT_H_
#define KERNELS_ATTENTION_DROPOUT_H_

#include <cstdint>

namespace kernels::attention {

constexpr uint32_t kGoldenRatio = 0x9e3779b9u;

inline uint32_t Mix(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

inline uint32_t DropoutHeadKey(uint32_t seed, uint32_t head) {
  return Mix(seed + kGoldenRatio * (head + 1));
}
inline uint32_t DropoutQueryKey(uint32_t head_key, uint32_t query) { return Mix(head_key + query); }
inline uint32_t DropoutKeyKey(uint32_t key) { return Mix(kGoldenRatio * (key + 1)); }
inline uint32_t DropoutBits(uint32_t query_key, uint32_t key_key) {
  return Mix(query_key ^ key_key);
}

inline uint32_t DropoutThreshold(double rate) { return static_cast<uint32_t>(rate * 4294967296.0); }

}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_DROPOUT_H_
