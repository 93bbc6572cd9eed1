// One problem of linear attention, for every native backend.
//
// Arrays are contiguous: q [batch, seq_len, num_heads, key_dim], k [batch, seq_len, num_kv_heads,
// key_dim], v [batch, seq_len, num_kv_heads, value_dim], out like q with value_dim. Query head h
// reads key head h / (num_heads / num_kv_heads). States are [batch, num_heads, key_dim, value_dim]
// (kv) and [batch, num_heads, key_dim] (k_sum), in the type of the sums: float32, or float64 for
// float64. reference.py has the formula.
#ifndef KERNELS_LINEAR_ATTENTION_PROBLEM_H_
#define KERNELS_LINEAR_ATTENTION_PROBLEM_H_

#include <cstdint>

namespace kernels::linear_attention {

enum class DType { kFloat16, kBFloat16, kFloat32, kFloat64 };

// "float16" and so on.
const char* DTypeName(DType dtype);

// Acts on each channel of q and k. As FEATURE_MAPS in contract.py.
enum class FeatureMap { kIdentity, kElu, kRelu };
constexpr int kNumFeatureMaps = 3;

struct Problem {
  int64_t batch;
  int64_t seq_len;
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t key_dim;
  int64_t value_dim;
  bool causal;
  FeatureMap feature_map;
  bool normalize;
  double eps;    // Added to the sum of the weights if `normalize`.
  double scale;  // Factor of the output unless `normalize`.
};

// Throws std::invalid_argument for negative sizes, dimensions or head counts below 1, num_heads not
// a multiple of num_kv_heads, and a feature map that there is not.
void CheckProblem(const Problem& problem);

struct ForwardTensors {
  void* q;
  void* k;
  void* v;
  void* decay;       // [batch, num_heads], in the type of the sums. Null: 1.
  void* initial_kv;  // Null: zeros, as initial_k_sum.
  void* initial_k_sum;
  void* out;
  // [batch, num_heads, seq_len], in the type of the sums: what the weighted sum of the values was
  // multiplied by.
  void* factor;
  void* final_kv;  // Null: not wanted, as final_k_sum.
  void* final_k_sum;
  void* workspace;  // See workspace_shape in contract.py. The CPU code takes none.
};

struct BackwardTensors {
  void* q;
  void* k;
  void* v;
  void* decay;
  void* initial_kv;
  void* initial_k_sum;
  void* out;
  void* factor;
  void* grad_out;
  void* grad_final_kv;  // Null: zeros, as grad_final_k_sum.
  void* grad_final_k_sum;
  void* grad_q;
  void* grad_k;
  void* grad_v;
  void* grad_decay;       // Null: not wanted.
  void* grad_initial_kv;  // Null: not wanted, as grad_initial_k_sum.
  void* grad_initial_k_sum;
  void* workspace;
};

}  // namespace kernels::linear_attention

#endif  // KERNELS_LINEAR_ATTENTION_PROBLEM_H_
