#include "kernels/linear_attention/xla_handlers.h"

#include <array>
#include <stdexcept>
#include <tuple>

#include "kernels/linear_attention/cpu.h"
#include "kernels/linear_attention/problem.h"
#include "kernels/linear_attention/triton.h"
#include "kernels/native/xla_calls.h"

namespace kernels::linear_attention {
namespace {

DType ToDType(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::F16:
      return DType::kFloat16;
    case ffi::DataType::BF16:
      return DType::kBFloat16;
    case ffi::DataType::F32:
      return DType::kFloat32;
    case ffi::DataType::F64:
      return DType::kFloat64;
    default:
      throw std::invalid_argument("linear_attention takes float16, bfloat16, float32 or float64");
  }
}

Problem ToProblem(const Arrays& arrays, const ffi::Dictionary& attributes) {
  const auto q = Array(arrays, 0).dimensions(), v = Array(arrays, 2).dimensions();
  if (q.size() != 4 || v.size() != 4) {
    throw std::invalid_argument(
        "linear_attention takes arrays [batch, seq_len, num_heads, head_dim]");
  }
  return {q[0],
          q[1],
          q[2],
          v[2],
          q[3],
          v[3],
          Attribute<bool>(attributes, "causal"),
          static_cast<FeatureMap>(Attribute<int64_t>(attributes, "feature_map")),
          Attribute<bool>(attributes, "normalize"),
          Attribute<double>(attributes, "eps"),
          Attribute<double>(attributes, "scale")};
}

template <typename Tensors, size_t kCount>
Tensors ToTensors(const std::array<void*, kCount>& arrays) {
  static_assert(sizeof(Tensors) == sizeof(arrays), "one array for each pointer");
  return std::apply([](auto... array) { return Tensors{array...}; }, arrays);
}

// `run(dtype, problem, tensors)` is the backend.
template <typename Run>
ffi::Error Forward(const Arrays& in, const Outputs& out, const ffi::Dictionary& attributes,
                   const Run& run) {
  return Guard([&] {
    run(ToDType(Array(in, 0).element_type()), ToProblem(in, attributes),
        ToTensors<ForwardTensors>(Collect<6, 5>(in, out)));
  });
}

template <typename Run>
ffi::Error Backward(const Arrays& in, const Outputs& out, const ffi::Dictionary& attributes,
                    const Run& run) {
  return Guard([&] {
    run(ToDType(Array(in, 0).element_type()), ToProblem(in, attributes),
        ToTensors<BackwardTensors>(Collect<11, 7>(in, out)));
  });
}

ffi::Error ForwardOnCpu(ffi::ThreadPool pool, Arrays in, Outputs out, ffi::Dictionary attributes) {
  RespectThreads(pool);
  return Forward(in, out, attributes, ForwardCpu);
}

ffi::Error BackwardOnCpu(ffi::ThreadPool pool, Arrays in, Outputs out, ffi::Dictionary attributes) {
  RespectThreads(pool);
  return Backward(in, out, attributes, BackwardCpu);
}

ffi::Error ForwardOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                         ffi::Dictionary attributes) {
  return Forward(in, out, attributes, [&](DType dtype, const Problem& p, const ForwardTensors& t) {
    ForwardTriton(dtype, p, t, {device, stream});
  });
}

ffi::Error BackwardOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                          ffi::Dictionary attributes) {
  return Backward(in, out, attributes,
                  [&](DType dtype, const Problem& p, const BackwardTensors& t) {
                    BackwardTriton(dtype, p, t, {device, stream});
                  });
}

}  // namespace
}  // namespace kernels::linear_attention

XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcLinearAttentionForwardCpu, kernels::linear_attention::ForwardOnCpu,
                              kernels::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcLinearAttentionBackwardCpu,
                              kernels::linear_attention::BackwardOnCpu, kernels::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcLinearAttentionForwardTriton,
                              kernels::linear_attention::ForwardOnCuda, kernels::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcLinearAttentionBackwardTriton,
                              kernels::linear_attention::BackwardOnCuda, kernels::CudaBinding());
