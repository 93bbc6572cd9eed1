#include "kernels/quantize/xla_handlers.h"

#include <array>
#include <exception>
#include <stdexcept>
#include <string>
#include <tuple>

#include "kernels/native/parallel.h"
#include "kernels/quantize/cpu.h"
#include "kernels/quantize/cuda.h"
#include "kernels/quantize/problem.h"
#include "xla/ffi/api/ffi.h"

namespace kernels::quantize {
namespace {

namespace ffi = xla::ffi;
using Arrays = ffi::RemainingArgs;
using Outputs = ffi::RemainingRets;

DType ToDType(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::F16:
      return DType::kFloat16;
    case ffi::DataType::BF16:
      return DType::kBFloat16;
    case ffi::DataType::F32:
      return DType::kFloat32;
    default:
      throw std::invalid_argument("quantize takes float16, bfloat16 or float32");
  }
}

ffi::AnyBuffer Array(const Arrays& arrays, size_t index) {
  return arrays.get<ffi::AnyBuffer>(index).value();
}

ffi::AnyBuffer Array(const Outputs& outputs, size_t index) {
  return **outputs.get<ffi::AnyBuffer>(index);
}

void* Data(const ffi::AnyBuffer& array) {
  return array.element_count() == 0 ? nullptr : array.untyped_data();
}

template <typename T>
T Attribute(const ffi::Dictionary& attributes, const char* name) {
  const auto value = attributes.get<T>(name);
  if (!value.has_value()) {
    throw std::invalid_argument(std::string("quantize lacks the attribute ") + name);
  }
  return *value;
}

Problem ToProblem(const ffi::Dictionary& attributes) {
  return {Attribute<int64_t>(attributes, "size"),
          Attribute<int64_t>(attributes, "num_chunks"),
          Attribute<int64_t>(attributes, "chunk_size"),
          static_cast<Format>(Attribute<int64_t>(attributes, "format")),
          static_cast<Rounding>(Attribute<int64_t>(attributes, "rounding")),
          Attribute<int64_t>(attributes, "block_size"),
          static_cast<float>(Attribute<double>(attributes, "multiplier"))};
}

// The arrays of a call, in the order of the structs.
template <size_t kInputs, size_t kOutputs>
std::array<void*, kInputs + kOutputs> Collect(const Arrays& in, const Outputs& out) {
  if (in.size() != kInputs || out.size() != kOutputs) {
    throw std::invalid_argument("quantize is called with a wrong number of arrays");
  }
  std::array<void*, kInputs + kOutputs> all;
  for (size_t i = 0; i < kInputs; ++i) all[i] = Data(Array(in, i));
  for (size_t i = 0; i < kOutputs; ++i) all[kInputs + i] = Data(Array(out, i));
  return all;
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

// `run(dtype, problem, tensors)` is the backend, of the functions below.
template <typename Run>
ffi::Error Quantize(const Arrays& in, const Outputs& out, const ffi::Dictionary& attributes,
                    const Run& run) {
  return Guard([&] {
    const auto [noise, x, residual_in, residual_out, payload] = Collect<3, 2>(in, out);
    run(ToDType(Array(in, 1).element_type()), ToProblem(attributes),
        QuantizeTensors{noise, x, residual_in, residual_out, payload});
  });
}

template <typename Run>
ffi::Error Dequantize(const Arrays& in, const Outputs& out, const ffi::Dictionary& attributes,
                      const Run& run) {
  return Guard([&] {
    const auto [payload, values] = Collect<1, 1>(in, out);
    run(ToDType(Array(out, 0).element_type()), ToProblem(attributes),
        DequantizeTensors{payload, values});
  });
}

template <typename Run>
ffi::Error Reduce(const Arrays& in, const Outputs& out, const ffi::Dictionary& attributes,
                  const Run& run) {
  return Guard([&] {
    const auto [payloads, values] = Collect<1, 1>(in, out);
    run(ToDType(Array(out, 0).element_type()), ToProblem(attributes),
        ReduceTensors{payloads, values});
  });
}

template <typename Run>
ffi::Error ReduceQuantize(const Arrays& in, const Outputs& out, const ffi::Dictionary& attributes,
                          const Run& run) {
  return Guard([&] {
    const auto [noise, payloads, residual_in, residual_out, payload] = Collect<3, 2>(in, out);
    run(ToProblem(attributes),
        ReduceQuantizeTensors{noise, payloads, residual_in, residual_out, payload});
  });
}

// Uses as many threads as XLA does; it says 0 where it has no pool.
void RespectThreads(const ffi::ThreadPool& pool) {
  if (pool.num_threads() > 0) LimitThreads(static_cast<int>(pool.num_threads()));
}

ffi::Error QuantizeOnCpu(ffi::ThreadPool pool, Arrays in, Outputs out, ffi::Dictionary attributes) {
  RespectThreads(pool);
  return Quantize(in, out, attributes, QuantizeCpu);
}

ffi::Error DequantizeOnCpu(ffi::ThreadPool pool, Arrays in, Outputs out,
                           ffi::Dictionary attributes) {
  RespectThreads(pool);
  return Dequantize(in, out, attributes, DequantizeCpu);
}

ffi::Error ReduceOnCpu(ffi::ThreadPool pool, Arrays in, Outputs out, ffi::Dictionary attributes) {
  RespectThreads(pool);
  return Reduce(in, out, attributes, ReduceCpu);
}

ffi::Error ReduceQuantizeOnCpu(ffi::ThreadPool pool, Arrays in, Outputs out,
                               ffi::Dictionary attributes) {
  RespectThreads(pool);
  return ReduceQuantize(in, out, attributes, ReduceQuantizeCpu);
}

ffi::Error QuantizeOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                          ffi::Dictionary attributes) {
  return Quantize(in, out, attributes, [&](DType dtype, const Problem& p, const auto& t) {
    QuantizeCuda(dtype, p, t, {device, stream});
  });
}

ffi::Error DequantizeOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                            ffi::Dictionary attributes) {
  return Dequantize(in, out, attributes, [&](DType dtype, const Problem& p, const auto& t) {
    DequantizeCuda(dtype, p, t, {device, stream});
  });
}

ffi::Error ReduceOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                        ffi::Dictionary attributes) {
  return Reduce(in, out, attributes, [&](DType dtype, const Problem& p, const auto& t) {
    ReduceCuda(dtype, p, t, {device, stream});
  });
}

ffi::Error ReduceQuantizeOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                                ffi::Dictionary attributes) {
  return ReduceQuantize(in, out, attributes, [&](const Problem& p, const auto& t) {
    ReduceQuantizeCuda(p, t, {device, stream});
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
}  // namespace kernels::quantize

XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcQuantizeCpu, kernels::quantize::QuantizeOnCpu,
                              kernels::quantize::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcQuantizeCuda, kernels::quantize::QuantizeOnCuda,
                              kernels::quantize::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcDequantizeCpu, kernels::quantize::DequantizeOnCpu,
                              kernels::quantize::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcDequantizeCuda, kernels::quantize::DequantizeOnCuda,
                              kernels::quantize::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcReduceCpu, kernels::quantize::ReduceOnCpu,
                              kernels::quantize::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcReduceCuda, kernels::quantize::ReduceOnCuda,
                              kernels::quantize::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcReduceQuantizeCpu, kernels::quantize::ReduceQuantizeOnCpu,
                              kernels::quantize::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcReduceQuantizeCuda, kernels::quantize::ReduceQuantizeOnCuda,
                              kernels::quantize::CudaBinding());
