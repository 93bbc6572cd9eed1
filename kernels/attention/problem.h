// One attention problem, for every native backend; reference.py is the specification.
//
// Arrays are contiguous: q, out [batch, seq_q, num_heads, head_dim]; k, v [batch, seq_k,
// num_kv_heads, head_dim]; lse, delta [batch, num_heads, seq_q]. Query head h reads key head
// h / (num_heads / num_kv_heads). Query i stands at position i + seq_k - seq_q and key j at
// position j. A query that sees no key gets zeros.
#ifndef KERNELS_ATTENTION_PROBLEM_H_
#define KERNELS_ATTENTION_PROBLEM_H_

#include <cstdint>

namespace kernels::attention {

// Sums are float32, or float64 for float64.
enum class DType { kFloat16, kBFloat16, kFloat32, kFloat64 };

// "float16" and so on.
const char* DTypeName(DType dtype);

// A side of the window without a limit.
constexpr int64_t kUnbounded = -1;

struct Problem {
  int64_t batch;
  int64_t seq_q;
  int64_t seq_k;
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
  double softmax_scale;
  // A query at position p sees the keys p - window_left .. p + window_right. Causal: right is 0.
  int64_t window_left;
  int64_t window_right;
  // Scores s become softcap * tanh(s / softcap); 0: as they are.
  double softcap;
  // The probability that a probability becomes 0; the others grow by 1 / (1 - dropout_rate).
  double dropout_rate;
  // Of the head_dim channels, the first rotary_dim are rotated (0: none): channel pairs are
  // (2c, 2c + 1) if interleaved, else (c, c + rotary_dim / 2).
  int64_t rotary_dim;
  bool rotary_interleaved;
};

// Throws std::invalid_argument for a problem that is not one: negative sizes, head_dim or head
// counts below 1, num_heads not a multiple of num_kv_heads, and options out of range.
void CheckProblem(const Problem& problem);

// Arrays that a problem may have besides q, k and v; null where it has not. "Sum type": that of the
// sums, float32 or float64.
struct Extras {
  // [batch, num_heads], sum type: the score of a key at distance d is lowered by slope * |d|.
  void* alibi_slopes;
  // [max(seq_q, seq_k), rotary_dim / 2], sum type, given iff rotary_dim > 0. Key j is rotated by
  // row j + max(seq_q - seq_k, 0), query i by row i + max(seq_k - seq_q, 0).
  void* rope_cos;
  void* rope_sin;
  // [batch, seq_q] and [batch, seq_k], both or none: a query sees the keys of its own segment. A
  // negative one sees nothing and is not seen.
  int32_t* q_segments;
  int32_t* kv_segments;
  // [batch], given iff dropout_rate > 0; see dropout.h.
  uint32_t* dropout_seeds;
};

struct ForwardTensors {
  void* q;
  void* k;
  void* v;
  void* out;
  // log of the sum of exp(scores), in the sum type; -inf where a query sees no key.
  void* lse;
  // Workspace for CUDA of the shapes of q and k: room for what RoPE makes of them; null: the
  // kernels turn q and k as they read them.
  void* rotated_q;
  void* rotated_k;
  Extras extras;
};

struct BackwardTensors {
  void* q;
  void* k;
  void* v;
  void* out;
  void* lse;
  void* grad_out;
  // Gradient of lse, in the sum type, or null.
  void* grad_lse;
  void* grad_q;
  void* grad_k;
  void* grad_v;
  // [batch, num_heads, seq_q], sum type, or null: numbers of each query that add up to the gradient
  // of its head's slope.
  void* grad_slopes;
  // Workspace that the caller provides: sum(out * grad_out) of each query less grad_lse, in the sum
  // type.
  void* delta;
  // As in ForwardTensors.
  void* rotated_q;
  void* rotated_k;
  Extras extras;
};

}  // namespace kernels::attention

#endif  // KERNELS_ATTENTION_PROBLEM_H_
