#include "kernels/quantize/xla_handlers.h"

#include <stdexcept>

#include "kernels/native/xla_calls.h"
#include "kernels/quantize/cpu.h"
#include "kernels/quantize/problem.h"
#include "kernels/quantize/triton.h"

namespace kernels::quantize {
namespace {

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

Problem ToProblem(const ffi::Dictionary& attributes) {
  return {Attribute<int64_t>(attributes, "size"),
          Attribute<int64_t>(attributes, "num_chunks"),
          Attribute<int64_t>(attributes, "chunk_size"),
          static_cast<Format>(Attribute<int64_t>(attributes, "format")),
          static_cast<Rounding>(Attribute<int64_t>(attributes, "rounding")),
          Attribute<int64_t>(attributes, "block_size"),
          static_cast<float>(Attribute<double>(attributes, "multiplier"))};
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
    QuantizeTriton(dtype, p, t, {device, stream});
  });
}

ffi::Error DequantizeOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                            ffi::Dictionary attributes) {
  return Dequantize(in, out, attributes, [&](DType dtype, const Problem& p, const auto& t) {
    DequantizeTriton(dtype, p, t, {device, stream});
  });
}

ffi::Error ReduceOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                        ffi::Dictionary attributes) {
  return Reduce(in, out, attributes, [&](DType dtype, const Problem& p, const auto& t) {
    ReduceTriton(dtype, p, t, {device, stream});
  });
}

ffi::Error ReduceQuantizeOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                                ffi::Dictionary attributes) {
  return ReduceQuantize(in, out, attributes, [&](const Problem& p, const auto& t) {
    ReduceQuantizeTriton(p, t, {device, stream});
  });
}

}  // namespace
}  // namespace kernels::quantize

XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcQuantizeCpu, kernels::quantize::QuantizeOnCpu,
                              kernels::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcQuantizeTriton, kernels::quantize::QuantizeOnCuda,
                              kernels::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcDequantizeCpu, kernels::quantize::DequantizeOnCpu,
                              kernels::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcDequantizeTriton, kernels::quantize::DequantizeOnCuda,
                              kernels::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcReduceCpu, kernels::quantize::ReduceOnCpu, kernels::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcReduceTriton, kernels::quantize::ReduceOnCuda,
                              kernels::CudaBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcReduceQuantizeCpu, kernels::quantize::ReduceQuantizeOnCpu,
                              kernels::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcReduceQuantizeTriton, kernels::quantize::ReduceQuantizeOnCuda,
                              kernels::CudaBinding());
