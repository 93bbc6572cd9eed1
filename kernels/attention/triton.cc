#include "kernels/attention/triton.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#include "kernels/attention/dropout.h"
#include "kernels/native/cuda_launch.h"

namespace kernels::attention {
namespace {

constexpr int64_t kMinBlockD = 32;
constexpr int64_t kMaxBlockD = 256;
constexpr int64_t kHeadDimMultiple = 8;

// As in triton_kernels.py, whose table says what each flavour does; each does what those before it
// do.
enum Flavour { kPlain, kAlibi, kFull, kDecode };
constexpr const char* kFlavourNames[] = {"plain", "alibi", "full", "decode"};
constexpr int64_t kDecodeQueries = 16;
constexpr double kLeastPlainScale = 1e-30;

bool HasFlavour(Flavour flavour, DType dtype, int64_t block_d) {
  if (flavour == kPlain) return dtype != DType::kFloat32;
  if (flavour == kAlibi) return dtype != DType::kFloat32 && (block_d == 64 || block_d == 128);
  return true;
}

Flavour ChooseFlavour(Flavour needed, DType dtype, int64_t block_d) {
  int flavour = needed;
  while (!HasFlavour(static_cast<Flavour>(flavour), dtype, block_d)) ++flavour;
  return static_cast<Flavour>(flavour);
}

Flavour NeededFlavour(const Problem& p, const Extras& extras) {
  if (p.softcap > 0 || p.dropout_rate > 0 || extras.q_segments != nullptr) return kFull;
  if (extras.alibi_slopes != nullptr || p.softmax_scale < kLeastPlainScale) return kAlibi;
  return kPlain;
}

void CheckForTriton(DType dtype, const Problem& p) {
  CheckProblem(p);
  if (dtype == DType::kFloat64) {
    throw std::invalid_argument("attention on CUDA takes float16, bfloat16 or float32");
  }
  if (p.head_dim > kMaxBlockD || p.head_dim % kHeadDimMultiple != 0) {
    throw std::invalid_argument(
        "attention on CUDA takes a head_dim up to 256 that is a multiple of 8, got " +
        std::to_string(p.head_dim));
  }
  for (int64_t size : {p.batch, p.seq_q, p.seq_k, p.num_heads * p.head_dim}) {
    if (size > std::numeric_limits<int32_t>::max() / kMaxBlockD) {
      throw std::invalid_argument("attention on CUDA: a size is too large, " +
                                  std::to_string(size));
    }
  }
}

int32_t Int(int64_t value) { return static_cast<int32_t>(value); }

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A side of the window as the kernels take it: a distance that every pair is within for no limit.
int32_t Reach(int64_t side, const Problem& p) {
  const int64_t everywhere = p.seq_q + p.seq_k;
  return Int(side == kUnbounded ? everywhere : std::min(side, everywhere));
}

// Null pointers are arguments like others: kernels ask the has_... parameters.
ForwardTensors WithoutGradients(const BackwardTensors& t) {
  return {t.q, t.k, t.v, t.out, t.lse, t.rotated_q, t.rotated_k, t.extras};
}

// The launches of one call. Arguments are matched to each kernel's parameters by name.
class Call {
 public:
  Call(DType dtype, const Problem& problem, const ForwardTensors& tensors, cuda::Queue queue)
      : dtype_(dtype), problem_(problem), tensors_(tensors), queue_(queue) {
    while (block_d_ < problem.head_dim) block_d_ *= 2;
  }

  // Writes x, [batch, seq_len, num_heads, head_dim], to `rotated`, which may be x.
  void Rotate(void* x, void* rotated, int64_t seq_len, int64_t num_heads, float direction) const {
    const auto& kernel = Find("attention_rotate", "");
    const int64_t other = problem_.seq_q + problem_.seq_k - seq_len;
    const int64_t blocks = CeilDiv(seq_len * num_heads, cuda::Constant(kernel, "BLOCK_ROWS"));
    cuda::Launch(kernel, queue_.stream, blocks * problem_.batch,
                 {{"x_ptr", x},
                  {"rotated_ptr", rotated},
                  {"rope_cos_ptr", tensors_.extras.rope_cos},
                  {"rope_sin_ptr", tensors_.extras.rope_sin},
                  {"seq_len", Int(seq_len)},
                  {"num_heads", Int(num_heads)},
                  {"head_dim", Int(problem_.head_dim)},
                  {"first_row", Int(std::max<int64_t>(other - seq_len, 0))},
                  {"rotary_dim", Int(problem_.rotary_dim)},
                  {"rotary_interleaved", Int(problem_.rotary_interleaved)},
                  {"direction", direction}});
  }

  // Rotates q and k into the workspace, from where the launches after it read them.
  void RotateInputs() {
    const Problem& p = problem_;
    Rotate(tensors_.q, tensors_.rotated_q, p.seq_q, p.num_heads, 1);
    Rotate(tensors_.k, tensors_.rotated_k, p.seq_k, p.num_kv_heads, 1);
    tensors_.q = tensors_.rotated_q;
    tensors_.k = tensors_.rotated_k;
  }

  void Forward(Flavour needed) const { LaunchOverQueries("attention_fwd", needed, {}); }

  // Delta, and then the gradients of queries and slopes.
  void BackwardQueries(const BackwardTensors& t) const {
    const auto& delta = Find("attention_bwd_delta", "");
    Launch(delta, QueryBlocks(delta), t);
    LaunchOverQueries("attention_bwd_q", NeededFlavour(problem_, tensors_.extras), t);
  }

  // The gradients of keys and values; needs delta.
  void BackwardKeys(const BackwardTensors& t) const {
    const auto& kv = FindFlavour("attention_bwd_kv", NeededFlavour(problem_, tensors_.extras));
    const int64_t key_blocks = CeilDiv(problem_.seq_k, cuda::Constant(kv, "BLOCK_K"));
    Launch(kv, key_blocks * problem_.num_kv_heads, t);
  }

 private:
  const cuda::LoadedKernel& Find(const char* kernel, const std::string& flavour) const {
    return cuda::FindKernel(
        std::string(kernel) + flavour + "_" + DTypeName(dtype_) + "_d" + std::to_string(block_d_),
        queue_.device);
  }

  const cuda::LoadedKernel& FindFlavour(const char* kernel, Flavour needed) const {
    const Flavour flavour = ChooseFlavour(needed, dtype_, block_d_);
    return Find(kernel, std::string("_") + kFlavourNames[flavour]);
  }

  int64_t QueryBlocks(const cuda::LoadedKernel& kernel) const {
    return CeilDiv(problem_.seq_q, cuda::Constant(kernel, "BLOCK_Q")) * problem_.num_heads;
  }

  void LaunchOverQueries(const char* kernel, Flavour needed, const BackwardTensors& t) const {
    const auto& found = FindFlavour(kernel, needed);
    Launch(found, QueryBlocks(found), t);
  }

  // Runs `blocks` programs for each batch row.
  void Launch(const cuda::LoadedKernel& kernel, int64_t blocks, const BackwardTensors& t) const {
    const Problem& p = problem_;
    const Extras& extras = tensors_.extras;
    cuda::Launch(kernel, queue_.stream, blocks * p.batch,
                 {{"q_ptr", tensors_.q},
                  {"k_ptr", tensors_.k},
                  {"v_ptr", tensors_.v},
                  {"out_ptr", tensors_.out},
                  {"lse_ptr", tensors_.lse},
                  {"grad_out_ptr", t.grad_out},
                  {"grad_lse_ptr", t.grad_lse},
                  {"grad_q_ptr", t.grad_q},
                  {"grad_k_ptr", t.grad_k},
                  {"grad_v_ptr", t.grad_v},
                  {"grad_slopes_ptr", t.grad_slopes},
                  {"delta_ptr", t.delta},
                  {"alibi_slopes_ptr", extras.alibi_slopes},
                  {"rope_cos_ptr", extras.rope_cos},
                  {"rope_sin_ptr", extras.rope_sin},
                  {"q_segments_ptr", static_cast<void*>(extras.q_segments)},
                  {"kv_segments_ptr", static_cast<void*>(extras.kv_segments)},
                  {"dropout_seeds_ptr", static_cast<void*>(extras.dropout_seeds)},
                  {"softmax_scale", static_cast<float>(p.softmax_scale)},
                  {"window_left", Reach(p.window_left, p)},
                  {"window_right", Reach(p.window_right, p)},
                  {"softcap", static_cast<float>(p.softcap)},
                  {"dropout_threshold", static_cast<int32_t>(DropoutThreshold(p.dropout_rate))},
                  {"dropout_scale", static_cast<float>(1 / (1 - p.dropout_rate))},
                  {"has_alibi", Int(extras.alibi_slopes != nullptr)},
                  {"has_segments", Int(extras.q_segments != nullptr)},
                  {"has_grad_lse", Int(t.grad_lse != nullptr)},
                  {"has_grad_slopes", Int(t.grad_slopes != nullptr)},
                  {"rotary_dim", Int(p.rotary_dim)},
                  {"rotary_interleaved", Int(p.rotary_interleaved)},
                  {"seq_q", Int(p.seq_q)},
                  {"seq_k", Int(p.seq_k)},
                  {"num_heads", Int(p.num_heads)},
                  {"num_kv_heads", Int(p.num_kv_heads)},
                  {"head_dim", Int(p.head_dim)}});
  }

  const DType dtype_;
  const Problem problem_;
  ForwardTensors tensors_;
  const cuda::Queue queue_;
  int64_t block_d_ = kMinBlockD;
};

}  // namespace

void ForwardTriton(DType dtype, const Problem& p, const ForwardTensors& t, cuda::Queue queue) {
  CheckForTriton(dtype, p);
  Call call(dtype, p, t, queue);
  const bool fuses_rope = p.rotary_dim > 0 && t.rotated_q == nullptr;
  if (p.rotary_dim > 0 && !fuses_rope) call.RotateInputs();
  const bool decodes = fuses_rope || p.seq_q <= kDecodeQueries;
  call.Forward(decodes ? kDecode : NeededFlavour(p, t.extras));
}

void BackwardTriton(DType dtype, const Problem& p, const BackwardTensors& t, cuda::Queue queue) {
  CheckForTriton(dtype, p);
  if (p.rotary_dim > 0 && (t.rotated_q == nullptr || t.rotated_k == nullptr)) {
    throw std::invalid_argument(
        "attention on CUDA: the backward pass of RoPE needs the workspace rotated_q and rotated_k");
  }
  Call call(dtype, p, WithoutGradients(t), queue);
  if (p.rotary_dim > 0) call.RotateInputs();
  call.BackwardQueries(t);
  call.BackwardKeys(t);
  if (p.rotary_dim > 0) {
    call.Rotate(t.grad_q, t.grad_q, p.seq_q, p.num_heads, -1);
    call.Rotate(t.grad_k, t.grad_k, p.seq_k, p.num_kv_heads, -1);
  }
}

void BackwardQueriesTriton(DType dtype, const Problem& p, const BackwardTensors& t,
                           cuda::Queue queue) {
  CheckForTriton(dtype, p);
  if (p.rotary_dim > 0) throw std::invalid_argument("BackwardQueriesTriton takes no RoPE");
  Call(dtype, p, WithoutGradients(t), queue).BackwardQueries(t);
}

}  // namespace kernels::attention
