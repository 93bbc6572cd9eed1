#include "kernels/attention/cuda.h"

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#include "kernels/native/cuda_launch.h"

namespace kernels::attention {
namespace {

// As VARIANTS in triton_kernels.py.
constexpr int64_t kMinBlockD = 32;
constexpr int64_t kMaxBlockD = 128;
constexpr int64_t kHeadDimMultiple = 8;

void CheckForCuda(DType dtype, const Problem& p) {
  CheckProblem(p);
  if (dtype == DType::kFloat64) {
    throw std::invalid_argument("attention on CUDA takes float16, bfloat16 or float32");
  }
  if (p.head_dim > kMaxBlockD || p.head_dim % kHeadDimMultiple != 0) {
    throw std::invalid_argument(
        "attention on CUDA takes a head_dim up to 128 that is a multiple of 8, got " +
        std::to_string(p.head_dim));
  }
  for (int64_t size : {p.batch, p.seq_q, p.seq_k, p.num_heads * p.head_dim}) {
    if (size > std::numeric_limits<int32_t>::max() / kMaxBlockD) {
      throw std::invalid_argument("attention on CUDA: a size is too large, " +
                                  std::to_string(size));
    }
  }
}

const cuda::LoadedKernel& Find(const char* kernel, DType dtype, const Problem& p, Queue queue) {
  int64_t block_d = kMinBlockD;
  while (block_d < p.head_dim) block_d *= 2;
  return cuda::FindKernel(
      std::string(kernel) + "_" + DTypeName(dtype) + "_d" + std::to_string(block_d), queue.device);
}

// Programs for all blocks of a sequence in all heads.
int64_t Grid(const cuda::LoadedKernel& kernel, const char* block, int64_t seq_len,
             int64_t num_heads, const Problem& p) {
  const int64_t size = cuda::Constant(kernel, block);
  return (seq_len + size - 1) / size * num_heads * p.batch;
}

int32_t Int(int64_t value) { return static_cast<int32_t>(value); }

}  // namespace

void ForwardCuda(DType dtype, const Problem& p, const ForwardTensors& t, Queue queue) {
  CheckForCuda(dtype, p);
  const auto& kernel = Find("attention_fwd", dtype, p, queue);
  cuda::Launch(kernel, queue.stream, Grid(kernel, "BLOCK_Q", p.seq_q, p.num_heads, p),
               {{"q_ptr", t.q},
                {"k_ptr", t.k},
                {"v_ptr", t.v},
                {"out_ptr", t.out},
                {"lse_ptr", t.lse},
                {"softmax_scale", static_cast<float>(p.softmax_scale)},
                {"seq_q", Int(p.seq_q)},
                {"seq_k", Int(p.seq_k)},
                {"num_heads", Int(p.num_heads)},
                {"num_kv_heads", Int(p.num_kv_heads)},
                {"head_dim", Int(p.head_dim)},
                {"causal", Int(p.causal)}});
}

void BackwardCuda(DType dtype, const Problem& p, const BackwardTensors& t, Queue queue) {
  CheckForCuda(dtype, p);
  const auto launch = [&](const char* name, const char* block, int64_t seq_len, int64_t num_heads) {
    const auto& kernel = Find(name, dtype, p, queue);
    cuda::Launch(kernel, queue.stream, Grid(kernel, block, seq_len, num_heads, p),
                 {{"q_ptr", t.q},
                  {"k_ptr", t.k},
                  {"v_ptr", t.v},
                  {"out_ptr", t.out},
                  {"grad_out_ptr", t.grad_out},
                  {"lse_ptr", t.lse},
                  {"delta_ptr", t.delta},
                  {"grad_q_ptr", t.grad_q},
                  {"grad_k_ptr", t.grad_k},
                  {"grad_v_ptr", t.grad_v},
                  {"softmax_scale", static_cast<float>(p.softmax_scale)},
                  {"seq_q", Int(p.seq_q)},
                  {"seq_k", Int(p.seq_k)},
                  {"num_heads", Int(p.num_heads)},
                  {"num_kv_heads", Int(p.num_kv_heads)},
                  {"head_dim", Int(p.head_dim)},
                  {"causal", Int(p.causal)}});
  };
  launch("attention_bwd_delta", "BLOCK_Q", p.seq_q, p.num_heads);
  launch("attention_bwd_kv", "BLOCK_K", p.seq_k, p.num_kv_heads);
  launch("attention_bwd_q", "BLOCK_Q", p.seq_q, p.num_heads);
}

}  // namespace kernels::attention
