#include "kernels/attention/cuda.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/keys_config.h"
#include "kernels/attention/sm90/order.h"
#include "kernels/attention/triton.h"
#include "kernels/native/cuda_launch.h"
#include "kernels/native/cuda_tensor_map.h"

namespace kernels::attention {
namespace {

constexpr double kLog2E = 1.4426950408889634;

sm90::Sequences SequencesOf(const Problem& p) {
  const auto limit = [](int64_t side) {
    return side == kUnbounded ? sm90::kNoLimit
                              : static_cast<int32_t>(std::min<int64_t>(side, sm90::kNoLimit));
  };
  return {static_cast<int32_t>(p.seq_q), static_cast<int32_t>(p.seq_k), limit(p.window_left),
          limit(p.window_right)};
}

const cuda::LoadedKernel& Find(const char* kernel, DType dtype, const Problem& p,
                               const Extras& extras, cuda::Queue queue) {
  if (!ServedByCuda(dtype, p, extras)) {
    throw std::invalid_argument(
        "attention's cuda backend takes float16 and bfloat16, head_dim 64 and 128, a positive "
        "softmax_scale, a window and ALiBi; not softcap, dropout, RoPE or segments, nor size 0");
  }
  const bool windowed = p.window_left != kUnbounded || p.window_right != kUnbounded;
  return cuda::FindKernel(std::string("attention_sm90_") + kernel + "_" + DTypeName(dtype) + "_d" +
                              std::to_string(p.head_dim) + (windowed ? "_windowed" : "") +
                              (extras.alibi_slopes != nullptr ? "_alibi" : ""),
                          queue.device);
}

// Of blocks of `block` rows of `heads` heads of each batch row.
template <class Params>
void LaunchPersistent(const cuda::LoadedKernel& kernel, const Problem& p, int64_t heads,
                      int64_t block, cuda::Queue queue, Params& params) {
  const int multiprocessors = cuda::MultiprocessorCount(queue.device);
  params.order =
      sm90::MakeOrder(params.sequences,
                      {static_cast<int32_t>(p.batch), static_cast<int32_t>(heads),
                       static_cast<int32_t>(p.num_kv_heads), static_cast<int32_t>(p.head_dim)},
                      static_cast<int32_t>(block), multiprocessors);
  // Thread blocks stay and take tile after tile.
  const int thread_blocks = std::min(multiprocessors, sm90::NumNumbers(params.order));
  cuda::Launch(kernel, queue.stream, thread_blocks,
               {{"params", cuda::Struct{&params, sizeof(params)}}});
}

// Of an array [batch, rows, heads, head_dim], in boxes of `box_rows` rows of half of a head or one.
void EncodeMap(DType dtype, const Problem& p, void* array, int64_t rows, int64_t heads,
               int64_t box_rows, sm90::TensorMap* map) {
  const auto size = [](int64_t value) { return static_cast<uint64_t>(value); };
  const cuda::ElementType type =
      dtype == DType::kFloat16 ? cuda::ElementType::kFloat16 : cuda::ElementType::kBFloat16;
  cuda::EncodeTensorMap({type,
                         array,
                         {size(p.head_dim), size(heads), size(rows), size(p.batch)},
                         {sm90::kPanelColumns, 1, static_cast<uint32_t>(box_rows), 1}},
                        map);
}

}  // namespace

bool ServedByCuda(DType dtype, const Problem& p, const Extras& extras) {
  const bool plain = p.softcap == 0 && p.dropout_rate == 0 && p.rotary_dim == 0 &&
                     extras.q_segments == nullptr && extras.kv_segments == nullptr;
  const bool fits = std::max(p.seq_q, p.seq_k) <= sm90::kMaxSequence &&
                    p.batch * p.num_heads <= sm90::kMaxSequence / std::max<int64_t>(p.seq_q, 1);
  return (dtype == DType::kFloat16 || dtype == DType::kBFloat16) &&
         (p.head_dim == 64 || p.head_dim == 128) && p.softmax_scale > 0 && plain && fits &&
         std::min({p.batch, p.seq_q, p.seq_k}) > 0;
}

void ForwardCuda(DType dtype, const Problem& p, const ForwardTensors& t, cuda::Queue queue) {
  CheckProblem(p);
  const cuda::LoadedKernel& kernel = Find("fwd", dtype, p, t.extras, queue);
  const int64_t block_q = cuda::Constant(kernel, "BLOCK_Q");
  const int64_t block_k = cuda::Constant(kernel, "BLOCK_K");
  sm90::ForwardParams params{};
  EncodeMap(dtype, p, t.q, p.seq_q, p.num_heads, block_q, &params.q);
  EncodeMap(dtype, p, t.k, p.seq_k, p.num_kv_heads, block_k, &params.k);
  EncodeMap(dtype, p, t.v, p.seq_k, p.num_kv_heads, block_k, &params.v);
  EncodeMap(dtype, p, t.out, p.seq_q, p.num_heads, sm90::kMmaRows, &params.out);
  params.lse = static_cast<float*>(t.lse);
  params.alibi_slopes = static_cast<const float*>(t.extras.alibi_slopes);
  params.scale_log2 = static_cast<float>(p.softmax_scale * kLog2E);
  params.heads_per_kv_head = static_cast<int32_t>(p.num_heads / p.num_kv_heads);
  params.sequences = SequencesOf(p);
  LaunchPersistent(kernel, p, p.num_heads, block_q, queue, params);
}

void BackwardKeysCuda(DType dtype, const Problem& p, const BackwardTensors& t, cuda::Queue queue) {
  CheckProblem(p);
  const cuda::LoadedKernel& kernel = Find("bwd_kv", dtype, p, t.extras, queue);
  const int64_t block_q = cuda::Constant(kernel, "BLOCK_Q");
  const int64_t block_k = cuda::Constant(kernel, "BLOCK_K");
  sm90::KeysParams params{};
  EncodeMap(dtype, p, t.q, p.seq_q, p.num_heads, block_q, &params.q);
  EncodeMap(dtype, p, t.k, p.seq_k, p.num_kv_heads, block_k, &params.k);
  EncodeMap(dtype, p, t.v, p.seq_k, p.num_kv_heads, block_k, &params.v);
  EncodeMap(dtype, p, t.grad_out, p.seq_q, p.num_heads, block_q, &params.grad_out);
  EncodeMap(dtype, p, t.grad_k, p.seq_k, p.num_kv_heads, sm90::kMmaRows, &params.grad_k);
  EncodeMap(dtype, p, t.grad_v, p.seq_k, p.num_kv_heads, sm90::kMmaRows, &params.grad_v);
  params.lse = static_cast<const float*>(t.lse);
  params.delta = static_cast<const float*>(t.delta);
  params.alibi_slopes = static_cast<const float*>(t.extras.alibi_slopes);
  params.softmax_scale = static_cast<float>(p.softmax_scale);
  params.scale_log2 = static_cast<float>(p.softmax_scale * kLog2E);
  params.heads_per_kv_head = static_cast<int32_t>(p.num_heads / p.num_kv_heads);
  params.sequences = sm90::Transposed(SequencesOf(p));
  LaunchPersistent(kernel, p, p.num_kv_heads, block_k, queue, params);
}

void BackwardCuda(DType dtype, const Problem& p, const BackwardTensors& t, cuda::Queue queue) {
  BackwardQueriesTriton(dtype, p, t, queue);
  BackwardKeysCuda(dtype, p, t, queue);
}

}  // namespace kernels::attention
