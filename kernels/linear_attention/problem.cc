#include "kernels/linear_attention/problem.h"

#include <stdexcept>
#include <string>

namespace kernels::linear_attention {

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
      throw std::invalid_argument(std::string("linear_attention: ") + what + ", got " +
                                  std::to_string(got));
    }
  };
  const int feature_map = static_cast<int>(p.feature_map);
  require(p.batch >= 0, "batch must not be negative", p.batch);
  require(p.seq_len >= 0, "seq_len must not be negative", p.seq_len);
  require(p.key_dim >= 1, "key_dim must be positive", p.key_dim);
  require(p.value_dim >= 1, "value_dim must be positive", p.value_dim);
  require(p.num_kv_heads >= 1, "num_kv_heads must be positive", p.num_kv_heads);
  require(p.num_heads >= 1 && p.num_heads % p.num_kv_heads == 0,
          "num_heads must be a positive multiple of num_kv_heads", p.num_heads);
  require(feature_map >= 0 && feature_map < kNumFeatureMaps, "feature_map must be 0, 1 or 2",
          feature_map);
}

}  // namespace kernels::linear_attention
