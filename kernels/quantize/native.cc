// The Python module kernels.quantize._native: one binary for PyTorch (functions on
// addresses) and JAX (XLA FFI handlers in capsules).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>

#include "kernels/native/python_module.h"
#include "kernels/quantize/cpu.h"
#include "kernels/quantize/problem.h"
#include "kernels/quantize/triton.h"
#include "kernels/quantize/xla_handlers.h"

namespace py = pybind11;

namespace kernels::quantize {
namespace {

// As contract.Layout and contract.Codec.
using Layout = std::array<int64_t, 3>;
using Codec = std::array<int64_t, 3>;

// Addresses of tensors, as torch.Tensor.data_ptr() gives them, in the order of the structs; 0 where
// there is none.
template <typename Tensors>
using Addresses = std::array<uintptr_t, sizeof(Tensors) / sizeof(void*)>;

template <typename Tensors>
Tensors ToTensors(const Addresses<Tensors>& addresses) {
  return std::apply([](auto... address) { return Tensors{reinterpret_cast<void*>(address)...}; },
                    addresses);
}

DType ToDType(const std::string& name) {
  for (DType dtype : {DType::kFloat16, DType::kBFloat16, DType::kFloat32}) {
    if (name == DTypeName(dtype)) return dtype;
  }
  throw std::invalid_argument("dtype must be float16, bfloat16 or float32, got " + name);
}

Problem ToProblem(const Layout& layout, const Codec& codec, double multiplier) {
  const auto [size, num_chunks, chunk_size] = layout;
  const auto [format, rounding, block_size] = codec;
  return {size,
          num_chunks,
          chunk_size,
          static_cast<Format>(format),
          static_cast<Rounding>(rounding),
          block_size,
          static_cast<float>(multiplier)};
}

// Sums that are quantized again have no values but float32.
void ReduceQuantizeFloat32OnCpu(DType, const Problem& p, const ReduceQuantizeTensors& t) {
  ReduceQuantizeCpu(p, t);
}
void ReduceQuantizeFloat32OnCuda(DType, const Problem& p, const ReduceQuantizeTensors& t,
                                 cuda::Queue queue) {
  ReduceQuantizeTriton(p, t, queue);
}

template <typename Tensors>
void DefineOnCpu(py::module_& m, const char* name,
                 void (*function)(DType, const Problem&, const Tensors&)) {
  m.def(
      name,
      [function](const std::string& dtype, const Layout& layout, const Codec& codec,
                 double multiplier, const Addresses<Tensors>& tensors) {
        function(ToDType(dtype), ToProblem(layout, codec, multiplier), ToTensors<Tensors>(tensors));
      },
      py::arg("dtype"), py::arg("layout"), py::arg("codec"), py::arg("multiplier"),
      py::arg("tensors"), py::call_guard<py::gil_scoped_release>());
}

template <typename Tensors>
void DefineOnCuda(py::module_& m, const char* name,
                  void (*function)(DType, const Problem&, const Tensors&, cuda::Queue)) {
  m.def(
      name,
      [function](const std::string& dtype, const Layout& layout, const Codec& codec,
                 double multiplier, const Addresses<Tensors>& tensors, int device,
                 uintptr_t stream) {
        function(ToDType(dtype), ToProblem(layout, codec, multiplier), ToTensors<Tensors>(tensors),
                 {device, reinterpret_cast<cuda::Stream>(stream)});
      },
      py::arg("dtype"), py::arg("layout"), py::arg("codec"), py::arg("multiplier"),
      py::arg("tensors"), py::arg("device"), py::arg("stream"),
      py::call_guard<py::gil_scoped_release>());
}

void BindCpu(py::module_& m) {
  DefineOnCpu(m, "quantize_cpu", QuantizeCpu);
  DefineOnCpu(m, "dequantize_cpu", DequantizeCpu);
  DefineOnCpu(m, "reduce_cpu", ReduceCpu);
  DefineOnCpu(m, "reduce_quantize_cpu", ReduceQuantizeFloat32OnCpu);
}

void BindTriton(py::module_& m) {
  DefineOnCuda(m, "quantize_triton", QuantizeTriton);
  DefineOnCuda(m, "dequantize_triton", DequantizeTriton);
  DefineOnCuda(m, "reduce_triton", ReduceTriton);
  DefineOnCuda(m, "reduce_quantize_triton", ReduceQuantizeFloat32OnCuda);
}

// (target, platform, handler) of each XLA FFI handler.
py::list XlaHandlers() {
  py::list handlers;
  const auto add = [&](const char* target, auto on_cpu, auto on_cuda) {
    handlers.append(py::make_tuple(target, "cpu", XlaCapsule(on_cpu)));
    handlers.append(py::make_tuple(target, "CUDA", XlaCapsule(on_cuda)));
  };
  add("hpc_quantize", HpcQuantizeCpu, HpcQuantizeTriton);
  add("hpc_dequantize", HpcDequantizeCpu, HpcDequantizeTriton);
  add("hpc_reduce", HpcReduceCpu, HpcReduceTriton);
  add("hpc_reduce_quantize", HpcReduceQuantizeCpu, HpcReduceQuantizeTriton);
  return handlers;
}

}  // namespace
}  // namespace kernels::quantize

PYBIND11_MODULE(_native, m) {
  m.doc() = "Blockwise 8-bit quantization in C++, for PyTorch and JAX.";
  kernels::DefineCommon(m);
  kernels::quantize::BindCpu(m);
  kernels::quantize::BindTriton(m);
  m.def("xla_handlers", &kernels::quantize::XlaHandlers);
}
