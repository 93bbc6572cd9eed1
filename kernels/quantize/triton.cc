#include "kernels/quantize/triton.h"

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#include "kernels/native/cuda_launch.h"

namespace kernels::quantize {
namespace {

// As TILE in triton_kernels.py.
constexpr int64_t kTile = 4096;

int32_t Int(int64_t value) { return static_cast<int32_t>(value); }

int32_t CheckedNumTerms(const Problem& p) {
  if (p.num_chunks > std::numeric_limits<int32_t>::max()) {
    throw std::invalid_argument("quantize on CUDA: too many payloads, " +
                                std::to_string(p.num_chunks));
  }
  return Int(p.num_chunks);
}

int64_t TilesPerChunk(const Problem& p) { return CeilDiv(p.chunk_size, kTile); }

int32_t Log2BlockSize(const Problem& p) {
  int32_t log2 = 0;
  while ((int64_t{1} << log2) < p.block_size) ++log2;
  return log2;
}

// The variants of the kernels that quantize are for a block size and a rounding.
const cuda::LoadedKernel& FindQuantizer(const std::string& kernel, const Problem& p,
                                        cuda::Queue queue) {
  const char* rounding = p.rounding == Rounding::kStochastic ? "stochastic" : "nearest";
  return cuda::FindKernel(kernel + "_b" + std::to_string(p.block_size) + "_" + rounding,
                          queue.device);
}

// Writes `chunks` chunks, each the sum of `terms` payloads.
void LaunchDequantize(DType dtype, const Problem& p, void* payloads, void* out, int64_t chunks,
                      int32_t terms, cuda::Queue queue) {
  const auto& kernel =
      cuda::FindKernel(std::string("dequantize_") + DTypeName(dtype), queue.device);
  cuda::Launch(kernel, queue.stream, chunks * TilesPerChunk(p),
               {{"payloads_ptr", payloads},
                {"out_ptr", out},
                {"size", p.size},
                {"chunk_size", p.chunk_size},
                {"payload_bytes", PayloadBytes(p)},
                {"num_terms", terms},
                {"multiplier", p.multiplier},
                {"log2_block", Log2BlockSize(p)},
                {"format", static_cast<int32_t>(p.format)}});
}

}  // namespace

void QuantizeTriton(DType dtype, const Problem& p, const QuantizeTensors& t, cuda::Queue queue) {
  CheckProblem(p);
  const auto& kernel = FindQuantizer(std::string("quantize_") + DTypeName(dtype), p, queue);
  cuda::Launch(kernel, queue.stream, p.num_chunks * TilesPerChunk(p),
               {{"noise_ptr", t.noise},
                {"x_ptr", t.x},
                {"residual_in_ptr", t.residual_in},
                {"residual_out_ptr", t.residual_out},
                {"payload_ptr", t.payload},
                {"size", p.size},
                {"chunk_size", p.chunk_size},
                {"payload_bytes", PayloadBytes(p)},
                {"format", static_cast<int32_t>(p.format)},
                {"has_residual", Int(t.residual_in != nullptr)}});
}

void DequantizeTriton(DType dtype, const Problem& p, const DequantizeTensors& t,
                      cuda::Queue queue) {
  CheckProblem(p);
  LaunchDequantize(dtype, p, t.payload, t.out, p.num_chunks, 1, queue);
}

void ReduceTriton(DType dtype, const Problem& p, const ReduceTensors& t, cuda::Queue queue) {
  CheckProblem(p);
  LaunchDequantize(dtype, p, t.payloads, t.out, 1, CheckedNumTerms(p), queue);
}

void ReduceQuantizeTriton(const Problem& p, const ReduceQuantizeTensors& t, cuda::Queue queue) {
  CheckProblem(p);
  const auto& kernel = FindQuantizer("reduce_quantize", p, queue);
  cuda::Launch(kernel, queue.stream, TilesPerChunk(p),
               {{"noise_ptr", t.noise},
                {"payloads_ptr", t.payloads},
                {"residual_in_ptr", t.residual_in},
                {"residual_out_ptr", t.residual_out},
                {"payload_ptr", t.payload},
                {"size", p.size},
                {"payload_bytes", PayloadBytes(p)},
                {"num_terms", CheckedNumTerms(p)},
                {"multiplier", p.multiplier},
                {"format", static_cast<int32_t>(p.format)},
                {"has_residual", Int(t.residual_in != nullptr)}});
}

}  // namespace kernels::quantize
