#include "kernels/attention/xla_handlers.h"

#include <exception>
#include <stdexcept>
#include <utility>

#include "kernels/attention/cpu.h"
#include "kernels/attention/cuda.h"
#include "kernels/attention/problem.h"
#include "xla/ffi/api/ffi.h"

namespace kernels::attention {
namespace {

namespace ffi = xla::ffi;
using Array = ffi::AnyBuffer;
using Output = ffi::Result<ffi::AnyBuffer>;

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
      throw std::invalid_argument("attention takes float16, bfloat16, float32 or float64");
  }
}

Problem ToProblem(const Array& q, const Array& k, bool causal, double softmax_scale) {
  const auto q_dims = q.dimensions(), k_dims = k.dimensions();
  if (q_dims.size() != 4 || k_dims.size() != 4) {
    throw std::invalid_argument("attention takes arrays [batch, seq_len, num_heads, head_dim]");
  }
  return {q_dims[0], q_dims[1], k_dims[1], q_dims[2], k_dims[2], q_dims[3], causal, softmax_scale};
}

// Exceptions must not reach XLA: they become errors here.
template <typename Body>
ffi::Error Guard(const Body& body) {
  try {
    body();
    return ffi::Error::Success();
  } catch (const std::invalid_argument& error) {
    return ffi::Error::InvalidArgument(error.what());
  } catch (const std::exception& error) {
    return ffi::Error::Internal(error.what());
  }
}

// Where each platform runs, from what XLA tells a handler.
struct OnCpu {
  void Forward(DType dtype, const Problem& p, const ForwardTensors& t) const {
    ForwardCpu(dtype, p, t);
  }
  void Backward(DType dtype, const Problem& p, const BackwardTensors& t) const {
    BackwardCpu(dtype, p, t);
  }
};
struct OnCuda {
  Queue queue;
  void Forward(DType dtype, const Problem& p, const ForwardTensors& t) const {
    ForwardCuda(dtype, p, t, queue);
  }
  void Backward(DType dtype, const Problem& p, const BackwardTensors& t) const {
    BackwardCuda(dtype, p, t, queue);
  }
};

template <typename Place>
ffi::Error Forward(const Place& place, const Array& q, const Array& k, const Array& v, Output& out,
                   Output& lse, bool causal, double softmax_scale) {
  return Guard([&] {
    place.Forward(ToDType(q.element_type()), ToProblem(q, k, causal, softmax_scale),
                  {q.untyped_data(), k.untyped_data(), v.untyped_data(), out->untyped_data(),
                   lse->untyped_data()});
  });
}

template <typename Place>
ffi::Error Backward(const Place& place, const Array& q, const Array& k, const Array& v,
                    const Array& out, const Array& lse, const Array& grad_out, Output& grad_q,
                    Output& grad_k, Output& grad_v, Output& delta, bool causal,
                    double softmax_scale) {
  return Guard([&] {
    place.Backward(ToDType(q.element_type()), ToProblem(q, k, causal, softmax_scale),
                   {q.untyped_data(), k.untyped_data(), v.untyped_data(), out.untyped_data(),
                    lse.untyped_data(), grad_out.untyped_data(), grad_q->untyped_data(),
                    grad_k->untyped_data(), grad_v->untyped_data(), delta->untyped_data()});
  });
}

ffi::Error ForwardOnCpu(Array q, Array k, Array v, Output out, Output lse, bool causal,
                        double softmax_scale) {
  return Forward(OnCpu{}, q, k, v, out, lse, causal, softmax_scale);
}

ffi::Error BackwardOnCpu(Array q, Array k, Array v, Array out, Array lse, Array grad_out,
                         Output grad_q, Output grad_k, Output grad_v, Output delta, bool causal,
                         double softmax_scale) {
  return Backward(OnCpu{}, q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v, delta, causal,
                  softmax_scale);
}

ffi::Error ForwardOnCuda(cuda::Stream stream, int32_t device, Array q, Array k, Array v, Output out,
                         Output lse, bool causal, double softmax_scale) {
  return Forward(OnCuda{{device, stream}}, q, k, v, out, lse, causal, softmax_scale);
}

ffi::Error BackwardOnCuda(cuda::Stream stream, int32_t device, Array q, Array k, Array v, Array out,
                          Array lse, Array grad_out, Output grad_q, Output grad_k, Output grad_v,
                          Output delta, bool causal, double softmax_scale) {
  return Backward(OnCuda{{device, stream}}, q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v,
                  delta, causal, softmax_scale);
}

template <typename Binding>
auto WithForwardArrays(Binding binding) {
  return std::move(binding)
      .template Arg<Array>()           // q
      .template Arg<Array>()           // k
      .template Arg<Array>()           // v
      .template Ret<ffi::AnyBuffer>()  // out
      .template Ret<ffi::AnyBuffer>()  // lse
      .template Attr<bool>("causal")
      .template Attr<double>("softmax_scale");
}

template <typename Binding>
auto WithBackwardArrays(Binding binding) {
  return std::move(binding)
      .template Arg<Array>()           // q
      .template Arg<Array>()           // k
      .template Arg<Array>()           // v
      .template Arg<Array>()           // out
      .template Arg<Array>()           // lse
      .template Arg<Array>()           // grad_out
      .template Ret<ffi::AnyBuffer>()  // grad_q
      .template Ret<ffi::AnyBuffer>()  // grad_k
      .template Ret<ffi::AnyBuffer>()  // grad_v
      .template Ret<ffi::AnyBuffer>()  // delta
      .template Attr<bool>("causal")
      .template Attr<double>("softmax_scale");
}

auto CudaBinding() {
  return ffi::Ffi::Bind().Ctx<ffi::PlatformStream<cuda::Stream>>().Ctx<ffi::DeviceOrdinal>();
}

}  // namespace
}  // namespace kernels::attention

XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcAttentionForwardCpu, kernels::attention::ForwardOnCpu,
                              kernels::attention::WithForwardArrays(xla::ffi::Ffi::Bind()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcAttentionBackwardCpu, kernels::attention::BackwardOnCpu,
                              kernels::attention::WithBackwardArrays(xla::ffi::Ffi::Bind()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    HpcAttentionForwardCuda, kernels::attention::ForwardOnCuda,
    kernels::attention::WithForwardArrays(kernels::attention::CudaBinding()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    HpcAttentionBackwardCuda, kernels::attention::BackwardOnCuda,
    kernels::attention::WithBackwardArrays(kernels::attention::CudaBinding()));
