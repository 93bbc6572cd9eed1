#include "kernels/attention/xla_handlers.h"

#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/attention/cpu.h"
#include "kernels/attention/cuda.h"
#include "kernels/attention/problem.h"
#include "kernels/attention/sm90.h"
#include "kernels/native/parallel.h"
#include "xla/ffi/api/ffi.h"

namespace kernels::attention {
namespace {

namespace ffi = xla::ffi;
using Arrays = ffi::RemainingArgs;
using Outputs = ffi::RemainingRets;

constexpr size_t kNumExtras = 6;
constexpr size_t kForwardArrays = 3 + kNumExtras, kForwardOutputs = 4;
constexpr size_t kBackwardArrays = 7 + kNumExtras, kBackwardOutputs = 7;

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

ffi::AnyBuffer Array(const Arrays& arrays, size_t index) {
  return arrays.get<ffi::AnyBuffer>(index).value();
}

template <typename T = void>
T* Data(const ffi::AnyBuffer& array) {
  return array.element_count() == 0 ? nullptr : static_cast<T*>(array.untyped_data());
}

void* Data(const Arrays& arrays, size_t index) { return Data(Array(arrays, index)); }

void* Data(const Outputs& outputs, size_t index) {
  return Data(**outputs.get<ffi::AnyBuffer>(index));
}

template <typename T>
T Attribute(const ffi::Dictionary& attributes, const char* name) {
  const auto value = attributes.get<T>(name);
  if (!value.has_value()) {
    throw std::invalid_argument(std::string("attention lacks the attribute ") + name);
  }
  return *value;
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

Extras ToExtras(const Arrays& arrays, size_t first) {
  return {Data(arrays, first),
          Data(arrays, first + 1),
          Data(arrays, first + 2),
          Data<int32_t>(Array(arrays, first + 3)),
          Data<int32_t>(Array(arrays, first + 4)),
          Data<uint32_t>(Array(arrays, first + 5))};
}

void CheckCounts(const Arrays& arrays, size_t num_arrays, const Outputs& outputs,
                 size_t num_outputs) {
  if (arrays.size() != num_arrays || outputs.size() != num_outputs) {
    throw std::invalid_argument("attention is called with a wrong number of arrays");
  }
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

// `run(dtype, problem, tensors)` is the backend.
template <typename Run>
ffi::Error Forward(const Arrays& in, const Outputs& out, const ffi::Dictionary& attributes,
                   const Run& run) {
  return Guard([&] {
    CheckCounts(in, kForwardArrays, out, kForwardOutputs);
    run(ToDType(Array(in, 0).element_type()), ToProblem(in, attributes),
        ForwardTensors{Data(in, 0), Data(in, 1), Data(in, 2), Data(out, 0), Data(out, 1),
                       Data(out, 2), Data(out, 3), ToExtras(in, 3)});
  });
}

template <typename Run>
ffi::Error Backward(const Arrays& in, const Outputs& out, const ffi::Dictionary& attributes,
                    const Run& run) {
  return Guard([&] {
    CheckCounts(in, kBackwardArrays, out, kBackwardOutputs);
    run(ToDType(Array(in, 0).element_type()), ToProblem(in, attributes),
        BackwardTensors{Data(in, 0), Data(in, 1), Data(in, 2), Data(in, 3), Data(in, 4),
                        Data(in, 5), Data(in, 6), Data(out, 0), Data(out, 1), Data(out, 2),
                        Data(out, 3), Data(out, 4), Data(out, 5), Data(out, 6), ToExtras(in, 7)});
  });
}

// Uses as many threads as XLA does; it says 0 where it has no pool.
void RespectThreads(const ffi::ThreadPool& pool) {
  if (pool.num_threads() > 0) LimitThreads(static_cast<int>(pool.num_threads()));
}

ffi::Error ForwardOnCpu(ffi::ThreadPool pool, Arrays in, Outputs out, ffi::Dictionary attributes) {
  RespectThreads(pool);
  return Forward(in, out, attributes, ForwardCpu);
}

ffi::Error BackwardOnCpu(ffi::ThreadPool pool, Arrays in, Outputs out, ffi::Dictionary attributes) {
  RespectThreads(pool);
  return Backward(in, out, attributes, BackwardCpu);
}

using QueuedForward = void (*)(DType, const Problem&, const ForwardTensors&, Queue);
using QueuedBackward = void (*)(DType, const Problem&, const BackwardTensors&, Queue);

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

auto CpuBinding() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().RemainingRets().Attrs();
}

auto CudaBinding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::PlatformStream<cuda::Stream>>()
      .Ctx<ffi::DeviceOrdinal>()
      .RemainingArgs()
      .RemainingRets()
      .Attrs();
}

}  // namespace
}  // namespace kernels::attention

XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcAttentionForwardCpu, kernels::attention::ForwardOnCpu,
                              kernels::attention::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcAttentionBackwardCpu, kernels::attention::BackwardOnCpu,
                              kernels::attention::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcAttentionForwardCuda,
                              kernels::attention::ForwardOnCuda<kernels::attention::ForwardCuda>,
                              kernels::attention::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcAttentionBackwardCuda,
                              kernels::attention::BackwardOnCuda<kernels::attention::BackwardCuda>,
                              kernels::attention::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcAttentionForwardSm90,
                              kernels::attention::ForwardOnCuda<kernels::attention::ForwardSm90>,
                              kernels::attention::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcAttentionBackwardSm90,
                              kernels::attention::BackwardOnCuda<kernels::attention::BackwardSm90>,
                              kernels::attention::CudaBinding());
