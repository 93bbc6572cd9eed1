#include "kernels/linear_attention/xla_handlers.h"

#include <exception>
#include <stdexcept>
#include <string>

#include "kernels/linear_attention/cpu.h"
#include "kernels/linear_attention/cuda.h"
#include "kernels/linear_attention/problem.h"
#include "kernels/native/parallel.h"
#include "xla/ffi/api/ffi.h"

namespace kernels::linear_attention {
namespace {

namespace ffi = xla::ffi;
using Arrays = ffi::RemainingArgs;
using Outputs = ffi::RemainingRets;

constexpr size_t kForwardArrays = 6, kForwardOutputs = 5;
constexpr size_t kBackwardArrays = 11, kBackwardOutputs = 7;

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

ffi::AnyBuffer Array(const Arrays& arrays, size_t index) {
  return arrays.get<ffi::AnyBuffer>(index).value();
}

void* Data(const ffi::AnyBuffer& array) {
  return array.element_count() == 0 ? nullptr : array.untyped_data();
}

void* Data(const Arrays& arrays, size_t index) { return Data(Array(arrays, index)); }

void* Data(const Outputs& outputs, size_t index) {
  return Data(**outputs.get<ffi::AnyBuffer>(index));
}

template <typename T>
T Attribute(const ffi::Dictionary& attributes, const char* name) {
  const auto value = attributes.get<T>(name);
  if (!value.has_value()) {
    throw std::invalid_argument(std::string("linear_attention lacks the attribute ") + name);
  }
  return *value;
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

void CheckCounts(const Arrays& arrays, size_t num_arrays, const Outputs& outputs,
                 size_t num_outputs) {
  if (arrays.size() != num_arrays || outputs.size() != num_outputs) {
    throw std::invalid_argument("linear_attention is called with a wrong number of arrays");
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
        ForwardTensors{Data(in, 0), Data(in, 1), Data(in, 2), Data(in, 3), Data(in, 4), Data(in, 5),
                       Data(out, 0), Data(out, 1), Data(out, 2), Data(out, 3), Data(out, 4)});
  });
}

template <typename Run>
ffi::Error Backward(const Arrays& in, const Outputs& out, const ffi::Dictionary& attributes,
                    const Run& run) {
  return Guard([&] {
    CheckCounts(in, kBackwardArrays, out, kBackwardOutputs);
    run(ToDType(Array(in, 0).element_type()), ToProblem(in, attributes),
        BackwardTensors{Data(in, 0), Data(in, 1), Data(in, 2), Data(in, 3), Data(in, 4),
                        Data(in, 5), Data(in, 6), Data(in, 7), Data(in, 8), Data(in, 9),
                        Data(in, 10), Data(out, 0), Data(out, 1), Data(out, 2), Data(out, 3),
                        Data(out, 4), Data(out, 5), Data(out, 6)});
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

ffi::Error ForwardOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                         ffi::Dictionary attributes) {
  return Forward(in, out, attributes, [&](DType dtype, const Problem& p, const ForwardTensors& t) {
    ForwardCuda(dtype, p, t, {device, stream});
  });
}

ffi::Error BackwardOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                          ffi::Dictionary attributes) {
  return Backward(in, out, attributes,
                  [&](DType dtype, const Problem& p, const BackwardTensors& t) {
                    BackwardCuda(dtype, p, t, {device, stream});
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
}  // namespace kernels::linear_attention

XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcLinearAttentionForwardCpu, kernels::linear_attention::ForwardOnCpu,
                              kernels::linear_attention::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcLinearAttentionBackwardCpu,
                              kernels::linear_attention::BackwardOnCpu,
                              kernels::linear_attention::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcLinearAttentionForwardCuda,
                              kernels::linear_attention::ForwardOnCuda,
                              kernels::linear_attention::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcLinearAttentionBackwardCuda,
                              kernels::linear_attention::BackwardOnCuda,
                              kernels::linear_attention::CudaBinding());
