#include "kernels/linear_attention/triton.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#include "kernels/native/cuda_launch.h"

namespace kernels::linear_attention {
namespace {

// As VARIANTS in triton_kernels.py.
constexpr int64_t kMinBlockD = 64;
constexpr int64_t kMaxBlockD = 128;
constexpr int64_t kHeadDimMultiple = 8;
// As CHUNK in contract.py.
constexpr int64_t kChunk = 64;

void CheckForTriton(DType dtype, const Problem& p) {
  CheckProblem(p);
  if (dtype == DType::kFloat64) {
    throw std::invalid_argument("linear_attention on CUDA takes float16, bfloat16 or float32");
  }
  for (int64_t dim : {p.key_dim, p.value_dim}) {
    if (dim > kMaxBlockD || dim % kHeadDimMultiple != 0) {
      throw std::invalid_argument(
          "linear_attention on CUDA takes a head_dim up to 128 that is a multiple of 8, got " +
          std::to_string(dim));
    }
  }
  for (int64_t size : {p.batch, p.seq_len, p.num_heads * kMaxBlockD}) {
    if (size > std::numeric_limits<int32_t>::max() / kMaxBlockD) {
      throw std::invalid_argument("linear_attention on CUDA: a size is too large, " +
                                  std::to_string(size));
    }
  }
}

int64_t NumChunks(const Problem& p) {
  return std::max<int64_t>((p.seq_len + kChunk - 1) / kChunk, 1);
}

// The parts of the workspace; see workspace_bytes in contract.py.
struct Workspace {
  Workspace(DType dtype, const Problem& p, void* memory) : next(static_cast<char*>(memory)) {
    const int64_t width = dtype == DType::kFloat32 ? 4 : 2;
    const int64_t slots = p.batch * p.num_heads * NumChunks(p);
    states = Take(slots * p.key_dim * p.value_dim * width);
    k_sums = Take(slots * p.key_dim * 4);
    grad_states = Take(slots * p.key_dim * p.value_dim * width);
    grad_k_sums = Take(slots * p.key_dim * 4);
    grad_sums = Take(slots * kChunk * 4);
    decay_parts = Take(slots * 2 * 4);
  }

  void* Take(int64_t bytes) {
    char* part = next;
    next += bytes;
    return part;
  }

  char* next;
  void *states, *k_sums;
  // Of the backward pass.
  void *grad_states, *grad_k_sums, *grad_sums, *decay_parts;
};

const cuda::LoadedKernel& Find(const char* kernel, DType dtype, const Problem& p,
                               cuda::Queue queue) {
  const int64_t widest = std::max(p.key_dim, p.value_dim);
  const int64_t block_d = widest <= kMinBlockD ? kMinBlockD : kMaxBlockD;
  return cuda::FindKernel(
      std::string(kernel) + "_" + DTypeName(dtype) + "_d" + std::to_string(block_d), queue.device);
}

int32_t Int(int64_t value) { return static_cast<int32_t>(value); }

int64_t ValueBlocks(const cuda::LoadedKernel& kernel, const Problem& p) {
  const int64_t block = cuda::Constant(kernel, "BLOCK_V");
  return (p.value_dim + block - 1) / block;
}

void LaunchStates(DType dtype, const Problem& p, const ForwardTensors& t, const Workspace& w,
                  cuda::Queue queue) {
  const auto& kernel = Find("linear_attention_states", dtype, p, queue);
  cuda::Launch(kernel, queue.stream, ValueBlocks(kernel, p) * p.num_heads * p.batch,
               {{"k_ptr", t.k},
                {"v_ptr", t.v},
                {"decay_ptr", t.decay},
                {"initial_kv_ptr", t.initial_kv},
                {"initial_k_sum_ptr", t.initial_k_sum},
                {"states_ptr", w.states},
                {"k_sums_ptr", w.k_sums},
                {"final_kv_ptr", t.final_kv},
                {"final_k_sum_ptr", t.final_k_sum},
                {"seq_len", Int(p.seq_len)},
                {"num_heads", Int(p.num_heads)},
                {"num_kv_heads", Int(p.num_kv_heads)},
                {"key_dim", Int(p.key_dim)},
                {"value_dim", Int(p.value_dim)},
                {"causal", Int(p.causal)},
                {"feature_map", static_cast<int32_t>(p.feature_map)},
                {"has_decay", Int(t.decay != nullptr)},
                {"has_initial", Int(t.initial_kv != nullptr)},
                {"has_final", Int(t.final_kv != nullptr)}});
}

ForwardTensors InputsOf(const BackwardTensors& t) {
  ForwardTensors inputs{};
  inputs.k = t.k;
  inputs.v = t.v;
  inputs.decay = t.decay;
  inputs.initial_kv = t.initial_kv;
  inputs.initial_k_sum = t.initial_k_sum;
  return inputs;
}

}  // namespace

void ForwardTriton(DType dtype, const Problem& p, const ForwardTensors& t, cuda::Queue queue) {
  CheckForTriton(dtype, p);
  const Workspace w(dtype, p, t.workspace);
  LaunchStates(dtype, p, t, w, queue);
  const auto& kernel = Find("linear_attention_fwd", dtype, p, queue);
  const int64_t blocks = ValueBlocks(kernel, p);
  cuda::Launch(kernel, queue.stream, blocks * NumChunks(p) * p.num_heads * p.batch,
               {{"q_ptr", t.q},
                {"k_ptr", t.k},
                {"v_ptr", t.v},
                {"decay_ptr", t.decay},
                {"states_ptr", w.states},
                {"k_sums_ptr", w.k_sums},
                {"out_ptr", t.out},
                {"factor_ptr", t.factor},
                {"eps", static_cast<float>(p.eps)},
                {"scale", static_cast<float>(p.scale)},
                {"seq_len", Int(p.seq_len)},
                {"num_heads", Int(p.num_heads)},
                {"num_kv_heads", Int(p.num_kv_heads)},
                {"key_dim", Int(p.key_dim)},
                {"value_dim", Int(p.value_dim)},
                {"causal", Int(p.causal)},
                {"feature_map", static_cast<int32_t>(p.feature_map)},
                {"normalize", Int(p.normalize)},
                {"has_decay", Int(t.decay != nullptr)}});
}

void BackwardTriton(DType dtype, const Problem& p, const BackwardTensors& t, cuda::Queue queue) {
  CheckForTriton(dtype, p);
  const Workspace w(dtype, p, t.workspace);
  const int64_t rows = p.num_heads * p.batch, chunks = NumChunks(p);
  LaunchStates(dtype, p, InputsOf(t), w, queue);
  const auto launch = [&](const cuda::LoadedKernel& kernel, int64_t grid) {
    cuda::Launch(kernel, queue.stream, grid,
                 {{"q_ptr", t.q},
                  {"k_ptr", t.k},
                  {"v_ptr", t.v},
                  {"decay_ptr", t.decay},
                  {"out_ptr", t.out},
                  {"factor_ptr", t.factor},
                  {"grad_out_ptr", t.grad_out},
                  {"grad_final_kv_ptr", t.grad_final_kv},
                  {"grad_final_k_sum_ptr", t.grad_final_k_sum},
                  {"states_ptr", w.states},
                  {"k_sums_ptr", w.k_sums},
                  {"grad_states_ptr", w.grad_states},
                  {"grad_k_sums_ptr", w.grad_k_sums},
                  {"grad_sums_ptr", w.grad_sums},
                  {"decay_parts_ptr", w.decay_parts},
                  {"grad_q_ptr", t.grad_q},
                  {"grad_k_ptr", t.grad_k},
                  {"grad_v_ptr", t.grad_v},
                  {"grad_decay_ptr", t.grad_decay},
                  {"grad_initial_kv_ptr", t.grad_initial_kv},
                  {"grad_initial_k_sum_ptr", t.grad_initial_k_sum},
                  {"seq_len", Int(p.seq_len)},
                  {"num_heads", Int(p.num_heads)},
                  {"num_kv_heads", Int(p.num_kv_heads)},
                  {"key_dim", Int(p.key_dim)},
                  {"value_dim", Int(p.value_dim)},
                  {"num_parts", Int(2 * chunks)},
                  {"causal", Int(p.causal)},
                  {"feature_map", static_cast<int32_t>(p.feature_map)},
                  {"normalize", Int(p.normalize)},
                  {"has_decay", Int(t.decay != nullptr)},
                  {"has_grad_final", Int(t.grad_final_kv != nullptr)},
                  {"wants_decay", Int(t.grad_decay != nullptr)},
                  {"wants_initial", Int(t.grad_initial_kv != nullptr)}});
  };
  // `splits`: so many programs for each block of the value channels.
  const auto launch_variant = [&](const char* name, int64_t programs, bool splits) {
    const auto& kernel = Find(name, dtype, p, queue);
    launch(kernel, programs * (splits ? ValueBlocks(kernel, p) : 1));
  };
  const int64_t kv_rows = p.num_kv_heads * p.batch;
  launch_variant("linear_attention_bwd_sums", rows * chunks, false);
  launch_variant("linear_attention_bwd_states", rows, true);
  launch_variant("linear_attention_bwd_v", kv_rows * chunks, true);
  launch_variant("linear_attention_bwd_k", kv_rows * chunks, false);
  launch_variant("linear_attention_bwd_q", rows * chunks, false);
  if (t.grad_decay != nullptr) {
    launch(cuda::FindKernel("linear_attention_bwd_decay", queue.device), rows);
  }
}

}  // namespace kernels::linear_attention
