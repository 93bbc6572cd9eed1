// One attention problem, for every native backend.
//
// Arrays are contiguous: q, out [batch, seq_q, num_heads, head_dim]; k, v [batch, seq_k,
// num_kv_heads, head_dim]; lse, delta [batch, num_heads, seq_q]. Query head h reads key head
// h / (num_heads / num_kv_heads). With `causal`, query i sees the keys j <= i + seq_k - seq_q; a
// query that sees no key gets zeros.
#ifndef KERNELS_ATTENTION_PROBLEM_H_
#define KERNELS_ATTENTION_PROBLEM_H_

#include <cstdint>

namespace kernels::attention {

// Sums are float32, or float64 for float64.
enum class DType { kFloat16, kBFloat16, kFloat32, kFloat64 };

// "float16" and so on.
const char* DTypeName(DType dtype);

struct Problem {
  int64_t batch;
  int64_t seq_q;
  int64_t seq_k;
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
  bool causal;
  double softmax_scale;
};

// Throws std::invalid_argument for negative sizes, head_dim or head counts below 1, and num_heads
// not a multiple of num_kv_heads.
void CheckProblem(const Problem& problem);

struct ForwardTensors {
  void* q;
  void* k;
  void* v;
  void* out;
  // log of the sum of exp(scores), in the type of the sums; -inf where a query sees no key.
  void* lse;
};

struct BackwardTensors {
  void* q;
  void* k;
  void* v;
  void* out;
  void* lse;
  void* grad_out;
  void* grad_q;
  void* grad_k;
  void* grad_v;
  // Workspace that the caller provides: sum(out * grad_out) of each query, in the type of the sums.
  void* delta;
};

}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_PROBLEM_H_
