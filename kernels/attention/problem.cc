#include "kernels/attention/problem.h"

#include <stdexcept>
#include <string>

namespace kernels::attention {

const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return "float16";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
  }
  return "unknown";
}

void CheckProblem(const Problem& p) {
  const auto require = [](bool holds, const char* what, int64_t got) {
    if (!holds) {
      throw std::invalid_argument(std::string("attention: ") + what + ", got " +
                                  std::to_string(got));
    }
  };
  require(p.batch >= 0, "batch must not be negative", p.batch);
  require(p.seq_q >= 0, "seq_q must not be negative", p.seq_q);
  require(p.seq_k >= 0, "seq_k must not be negative", p.seq_k);
  require(p.head_dim >= 1, "head_dim must be positive", p.head_dim);
  require(p.num_kv_heads >= 1, "num_kv_heads must be positive", p.num_kv_heads);
  require(p.num_heads >= 1 && p.num_heads % p.num_kv_heads == 0,
          "num_heads must be a positive multiple of num_kv_heads", p.num_heads);
}

}  // namespace kernels::attention
