#include "kernels/quantize/problem.h"

#include <stdexcept>
#include <string>

namespace kernels::quantize {

const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return "float16";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat32:
      return "float32";
  }
  return "unknown";
}

void CheckProblem(const Problem& p) {
  const auto require = [](bool holds, const char* what, int64_t got) {
    if (!holds) {
      throw std::invalid_argument(std::string("quantize: ") + what + ", got " +
                                  std::to_string(got));
    }
  };
  const int format = static_cast<int>(p.format), rounding = static_cast<int>(p.rounding);
  require(p.size >= 0, "size must not be negative", p.size);
  require(p.num_chunks >= 1, "num_chunks must be at least 1", p.num_chunks);
  // Divided, since the product may overflow.
  require(p.chunk_size >= CeilDiv(p.size, p.num_chunks), "the chunks must hold all values",
          p.chunk_size);
  require(format >= 0 && format < kNumFormats, "format must be 0, 1 or 2", format);
  require(rounding >= 0 && rounding < kNumRoundings, "rounding must be 0 or 1", rounding);
  require(p.block_size >= kMinBlockSize && p.block_size <= kMaxBlockSize &&
              (p.block_size & (p.block_size - 1)) == 0,
          "block_size must be a power of two from 64 to 4096", p.block_size);
}

}  // namespace kernels::quantize
