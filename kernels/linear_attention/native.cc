// The Python module kernels.linear_attention._native: one binary for PyTorch (functions on
// addresses) and JAX (XLA FFI handlers in capsules).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>

#include "kernels/linear_attention/cpu.h"
#include "kernels/linear_attention/problem.h"
#include "kernels/linear_attention/triton.h"
#include "kernels/linear_attention/xla_handlers.h"
#include "kernels/native/python_module.h"

namespace py = pybind11;

namespace kernels::linear_attention {
namespace {

// As contract.Sizes and contract.Options.
using Sizes = std::array<int64_t, 6>;
using Options = std::tuple<bool, int, bool, double, double>;

// Addresses of tensors, as torch.Tensor.data_ptr() gives them, in the order of the structs; 0 where
// there is none.
using ForwardAddresses = std::array<uintptr_t, 11>;
using BackwardAddresses = std::array<uintptr_t, 18>;

template <typename Tensors, size_t kCount>
Tensors ToTensors(const std::array<uintptr_t, kCount>& addresses) {
  static_assert(sizeof(Tensors) == kCount * sizeof(void*), "one address for each pointer");
  return std::apply([](auto... address) { return Tensors{reinterpret_cast<void*>(address)...}; },
                    addresses);
}

DType ToDType(const std::string& name) {
  for (DType dtype : {DType::kFloat16, DType::kBFloat16, DType::kFloat32, DType::kFloat64}) {
    if (name == DTypeName(dtype)) return dtype;
  }
  throw std::invalid_argument("dtype must be float16, bfloat16, float32 or float64, got " + name);
}

Problem ToProblem(const Sizes& s, const Options& options) {
  const auto& [causal, feature_map, normalize, eps, scale] = options;
  return {s[0],      s[1], s[2], s[3], s[4], s[5], causal, static_cast<FeatureMap>(feature_map),
          normalize, eps,  scale};
}

void BindCpu(py::module_& m) {
  const auto forward = [](const std::string& dtype, const Sizes& sizes, const Options& options,
                          const ForwardAddresses& tensors) {
    ForwardCpu(ToDType(dtype), ToProblem(sizes, options), ToTensors<ForwardTensors>(tensors));
  };
  const auto backward = [](const std::string& dtype, const Sizes& sizes, const Options& options,
                           const BackwardAddresses& tensors) {
    BackwardCpu(ToDType(dtype), ToProblem(sizes, options), ToTensors<BackwardTensors>(tensors));
  };
  m.def("forward_cpu", forward, py::arg("dtype"), py::arg("sizes"), py::arg("options"),
        py::arg("tensors"), py::call_guard<py::gil_scoped_release>());
  m.def("backward_cpu", backward, py::arg("dtype"), py::arg("sizes"), py::arg("options"),
        py::arg("tensors"), py::call_guard<py::gil_scoped_release>());
}

void BindTriton(py::module_& m) {
  const auto forward = [](const std::string& dtype, const Sizes& sizes, const Options& options,
                          const ForwardAddresses& tensors, int device, uintptr_t stream) {
    ForwardTriton(ToDType(dtype), ToProblem(sizes, options), ToTensors<ForwardTensors>(tensors),
                  {device, reinterpret_cast<cuda::Stream>(stream)});
  };
  const auto backward = [](const std::string& dtype, const Sizes& sizes, const Options& options,
                           const BackwardAddresses& tensors, int device, uintptr_t stream) {
    BackwardTriton(ToDType(dtype), ToProblem(sizes, options), ToTensors<BackwardTensors>(tensors),
                   {device, reinterpret_cast<cuda::Stream>(stream)});
  };
  m.def("forward_triton", forward, py::arg("dtype"), py::arg("sizes"), py::arg("options"),
        py::arg("tensors"), py::arg("device"), py::arg("stream"),
        py::call_guard<py::gil_scoped_release>());
  m.def("backward_triton", backward, py::arg("dtype"), py::arg("sizes"), py::arg("options"),
        py::arg("tensors"), py::arg("device"), py::arg("stream"),
        py::call_guard<py::gil_scoped_release>());
}

// (target, platform, handler) of each XLA FFI handler.
py::list XlaHandlers() {
  constexpr char kForward[] = "hpc_linear_attention_forward";
  constexpr char kBackward[] = "hpc_linear_attention_backward";
  py::list handlers;
  handlers.append(py::make_tuple(kForward, "cpu", XlaCapsule(HpcLinearAttentionForwardCpu)));
  handlers.append(py::make_tuple(kBackward, "cpu", XlaCapsule(HpcLinearAttentionBackwardCpu)));
  handlers.append(py::make_tuple(kForward, "CUDA", XlaCapsule(HpcLinearAttentionForwardTriton)));
  handlers.append(py::make_tuple(kBackward, "CUDA", XlaCapsule(HpcLinearAttentionBackwardTriton)));
  return handlers;
}

}  // namespace
}  // namespace kernels::linear_attention

PYBIND11_MODULE(_native, m) {
  m.doc() = "Linear attention in C++, for PyTorch and JAX.";
  kernels::DefineCommon(m);
  kernels::linear_attention::BindCpu(m);
  kernels::linear_attention::BindTriton(m);
  m.def("xla_handlers", &kernels::linear_attention::XlaHandlers);
}
