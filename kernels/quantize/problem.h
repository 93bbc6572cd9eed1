// One problem of blockwise 8-bit quantization, for every native backend.
//
// An array of `size` values is cut into chunks, a chunk into blocks that share a scale. A payload
// is [num_chunks, PayloadBytes]: each row has a chunk's codes, in whole blocks, then its scales
// (float32), then zeros up to a multiple of kPayloadAlignment. reference.py says what codes are.
#ifndef KERNELS_QUANTIZE_PROBLEM_H_
#define KERNELS_QUANTIZE_PROBLEM_H_

#include <cstdint>

namespace kernels::quantize {

// Of values. Codes are bytes; scales and residuals are float32.
enum class DType { kFloat16, kBFloat16, kFloat32 };

// "float16" and so on.
const char* DTypeName(DType dtype);

// As FORMATS in contract.py.
enum class Format { kInt8, kFloat8E4M3, kFloat8E5M2 };
constexpr int kNumFormats = 3;

// As ROUNDINGS in contract.py.
enum class Rounding { kNearest, kStochastic };
constexpr int kNumRoundings = 2;

// As BLOCK_SIZES in contract.py: the powers of two between them.
constexpr int64_t kMinBlockSize = 64;
constexpr int64_t kMaxBlockSize = 4096;

constexpr int64_t kPayloadAlignment = 16;

struct Problem {
  // Values in the array; for a sum, in each of its terms.
  int64_t size;
  // Rows of the payload; for a sum, its terms.
  int64_t num_chunks;
  // Chunk i takes the values from i * chunk_size on; what lies beyond `size` is coded as zeros. For
  // a sum, each term is a chunk of all `size` values.
  int64_t chunk_size;
  Format format;
  Rounding rounding;
  int64_t block_size;
  // Of a sum.
  float multiplier = 1.0f;
};

// Throws std::invalid_argument for negative sizes, no chunks, chunks that cannot hold the values,
// and a format, rounding or block size that there is not.
void CheckProblem(const Problem& problem);

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

inline int64_t BlocksPerChunk(const Problem& p) { return CeilDiv(p.chunk_size, p.block_size); }

// The codes of a chunk, with those that fill its last block: where its scales begin.
inline int64_t CodesPerChunk(const Problem& p) { return BlocksPerChunk(p) * p.block_size; }

// From one row of a payload to the next.
inline int64_t PayloadBytes(const Problem& p) {
  return RoundUp(CodesPerChunk(p) + BlocksPerChunk(p) * int64_t{sizeof(float)}, kPayloadAlignment);
}

// In all of these, `noise` is uint32 [3]: the seed, and the low and the high half of the index that
// the first value has in the whole vector. Null for nearest rounding. On CUDA it is on the device,
// as all arrays are.

struct QuantizeTensors {
  void* noise;
  void* x;             // [size], of the problem's dtype.
  void* residual_in;   // Float32 [size], added to x. Null: none, as residual_out.
  void* residual_out;  // Float32 [size]; may be residual_in.
  void* payload;
};

struct DequantizeTensors {
  void* payload;
  void* out;  // [size], of the problem's dtype.
};

// out = multiplier * (the sum of the rows of payloads, in order).
struct ReduceTensors {
  void* payloads;  // [num_chunks, PayloadBytes].
  void* out;       // [size], of the problem's dtype.
};

// Quantizes that sum, in float32, into the payload of one chunk.
struct ReduceQuantizeTensors {
  void* noise;
  void* payloads;      // [num_chunks, PayloadBytes].
  void* residual_in;   // Float32 [size], added to the sum. Null: none, as residual_out.
  void* residual_out;  // Float32 [size]; may be residual_in.
  void* payload;       // [1, PayloadBytes].
};

}  // namespace kernels::quantize

#endif  // KERNELS_QUANTIZE_PROBLEM_H_
