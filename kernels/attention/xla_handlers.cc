#include "kernels/attention/xla_handlers.h"

#include <cstdint>
#include <stdexcept>

#include "kernels/attention/cpu.h"
#include "kernels/attention/cuda.h"
#include "kernels/attention/problem.h"
#include "kernels/attention/triton.h"
#include "kernels/native/xla_calls.h"

namespace kernels::attention {
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
      throw std::invalid_argument("attention takes float16, bfloat16, float32 or float64");
  }
}

Problem ToProblem(const Arrays& arrays, const ffi::Dictionary& attributes) {
  const auto q = Array(arrays, 0).dimensions(), k = Array(arrays, 1).dimensions();
  if (q.size() != 4 || k.size() != 4) {
    throw std::invalid_argument("attention takes arrays [batch, seq_len, num_heads, head_dim]");
  }
  Problem p{q[0], q[1], k[1], q[2], k[2], q[3]};
  p.softmax_scale = Attribute<double>(attributes, "softmax_scale");
  p.window_left = Attribute<int64_t>(attributes, "window_left");
  p.window_right = Attribute<int64_t>(attributes, "window_right");
  p.softcap = Attribute<double>(attributes, "softcap");
  p.dropout_rate = Attribute<double>(attributes, "dropout_rate");
  p.rotary_dim = Attribute<int64_t>(attributes, "rotary_dim");
  p.rotary_interleaved = Attribute<bool>(attributes, "rotary_interleaved");
  return p;
}

// Of the last of the inputs.
Extras ToExtras(void* const* arrays) {
  return {arrays[0],
          arrays[1],
          arrays[2],
          static_cast<int32_t*>(arrays[3]),
          static_cast<int32_t*>(arrays[4]),
          static_cast<uint32_t*>(arrays[5])};
}

// `run(dtype, problem, tensors)` is the backend.
template <typename Run>
ffi::Error Forward(const Arrays& in, const Outputs& out, const ffi::Dictionary& attributes,
                   const Run& run) {
  return Guard([&] {
    const auto a = Collect<9, 4>(in, out);
    run(ToDType(Array(in, 0).element_type()), ToProblem(in, attributes),
        ForwardTensors{a[0], a[1], a[2], a[9], a[10], a[11], a[12], ToExtras(&a[3])});
  });
}

template <typename Run>
ffi::Error Backward(const Arrays& in, const Outputs& out, const ffi::Dictionary& attributes,
                    const Run& run) {
  return Guard([&] {
    const auto a = Collect<13, 7>(in, out);
    run(ToDType(Array(in, 0).element_type()), ToProblem(in, attributes),
        BackwardTensors{a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[13], a[14], a[15], a[16], a[17],
                        a[18], a[19], ToExtras(&a[7])});
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

using QueuedForward = void (*)(DType, const Problem&, const ForwardTensors&, cuda::Queue);
using QueuedBackward = void (*)(DType, const Problem&, const BackwardTensors&, cuda::Queue);

template <QueuedForward kForward>
ffi::Error ForwardOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                         ffi::Dictionary attributes) {
  return Forward(in, out, attributes, [&](DType dtype, const Problem& p, const ForwardTensors& t) {
    kForward(dtype, p, t, {device, stream});
  });
}

template <QueuedBackward kBackward>
ffi::Error BackwardOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                          ffi::Dictionary attributes) {
  return Backward(in, out, attributes,
                  [&](DType dtype, const Problem& p, const BackwardTensors& t) {
                    kBackward(dtype, p, t, {device, stream});
                  });
}

}  // namespace
}  // namespace kernels::attention

XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcAttentionForwardCpu, kernels::attention::ForwardOnCpu,
                              kernels::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcAttentionBackwardCpu, kernels::attention::BackwardOnCpu,
                              kernels::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcAttentionForwardTriton,
                              kernels::attention::ForwardOnCuda<kernels::attention::ForwardTriton>,
                              kernels::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    HpcAttentionBackwardTriton,
    kernels::attention::BackwardOnCuda<kernels::attention::BackwardTriton>, kernels::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcAttentionForwardCuda,
                              kernels::attention::ForwardOnCuda<kernels::attention::ForwardCuda>,
                              kernels::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcAttentionBackwardCuda,
                              kernels::attention::BackwardOnCuda<kernels::attention::BackwardCuda>,
                              kernels::CudaBinding());
