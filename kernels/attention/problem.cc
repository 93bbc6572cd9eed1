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
  require(p.window_left >= kUnbounded, "window_left must be -1 or more", p.window_left);
  require(p.window_right >= kUnbounded, "window_right must be -1 or more", p.window_right);
  require(p.rotary_dim >= 0 && p.rotary_dim <= p.head_dim && p.rotary_dim % 2 == 0,
          "rotary_dim must be even and at most head_dim", p.rotary_dim);
  if (!(p.softcap >= 0)) throw std::invalid_argument("attention: softcap must not be negative");
  if (!(p.dropout_rate >= 0 && p.dropout_rate < 1)) {
    throw std::invalid_argument("attention: dropout_rate must be in [0, 1)");
  }
}

}  // namespace kernels::attention
