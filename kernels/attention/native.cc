// The Python module kernels.attention._native: one binary for PyTorch (functions on addresses) and
// JAX (XLA FFI handlers in capsules).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/attention/cpu.h"
#include "kernels/attention/cuda.h"
#include "kernels/attention/problem.h"
#include "kernels/attention/xla_handlers.h"
#include "kernels/native/cpu_isa.h"
#include "kernels/native/cuda_launch.h"
#include "kernels/native/parallel.h"

namespace py = pybind11;

namespace kernels::attention {
namespace {

using Sizes = std::array<int64_t, 6>;

// Addresses of tensors, as torch.Tensor.data_ptr() gives them, in the order of the structs.
using ForwardAddresses = std::array<uintptr_t, 5>;
using BackwardAddresses = std::array<uintptr_t, 10>;

void* Pointer(uintptr_t address) { return reinterpret_cast<void*>(address); }

ForwardTensors ToTensors(const ForwardAddresses& a) {
  return {Pointer(a[0]), Pointer(a[1]), Pointer(a[2]), Pointer(a[3]), Pointer(a[4])};
}

BackwardTensors ToTensors(const BackwardAddresses& a) {
  return {Pointer(a[0]), Pointer(a[1]), Pointer(a[2]), Pointer(a[3]), Pointer(a[4]),
          Pointer(a[5]), Pointer(a[6]), Pointer(a[7]), Pointer(a[8]), Pointer(a[9])};
}

DType ToDType(const std::string& name) {
  for (DType dtype : {DType::kFloat16, DType::kBFloat16, DType::kFloat32, DType::kFloat64}) {
    if (name == DTypeName(dtype)) return dtype;
  }
  throw std::invalid_argument("dtype must be float16, bfloat16, float32 or float64, got " + name);
}

Problem ToProblem(const Sizes& s, bool causal, double softmax_scale) {
  return {s[0], s[1], s[2], s[3], s[4], s[5], causal, softmax_scale};
}

void BindCpu(py::module_& m) {
  const auto forward = [](const std::string& dtype, const Sizes& sizes, bool causal, double scale,
                          const ForwardAddresses& tensors) {
    ForwardCpu(ToDType(dtype), ToProblem(sizes, causal, scale), ToTensors(tensors));
  };
  const auto backward = [](const std::string& dtype, const Sizes& sizes, bool causal, double scale,
                           const BackwardAddresses& tensors) {
    BackwardCpu(ToDType(dtype), ToProblem(sizes, causal, scale), ToTensors(tensors));
  };
  m.def("forward_cpu", forward, py::arg("dtype"), py::arg("sizes"), py::arg("causal"),
        py::arg("softmax_scale"), py::arg("tensors"), py::call_guard<py::gil_scoped_release>());
  m.def("backward_cpu", backward, py::arg("dtype"), py::arg("sizes"), py::arg("causal"),
        py::arg("softmax_scale"), py::arg("tensors"), py::call_guard<py::gil_scoped_release>());
  const auto exp2 = [](uintptr_t in, int64_t count, uintptr_t out) {
    Exp2Cpu(static_cast<const float*>(Pointer(in)), count, static_cast<float*>(Pointer(out)));
  };
  m.def("exp2_cpu", exp2, py::arg("input"), py::arg("count"), py::arg("output"));
}

void BindCuda(py::module_& m) {
  const auto forward = [](const std::string& dtype, const Sizes& sizes, bool causal, double scale,
                          const ForwardAddresses& tensors, int device, uintptr_t stream) {
    ForwardCuda(ToDType(dtype), ToProblem(sizes, causal, scale), ToTensors(tensors),
                {device, reinterpret_cast<cuda::Stream>(stream)});
  };
  const auto backward = [](const std::string& dtype, const Sizes& sizes, bool causal, double scale,
                           const BackwardAddresses& tensors, int device, uintptr_t stream) {
    BackwardCuda(ToDType(dtype), ToProblem(sizes, causal, scale), ToTensors(tensors),
                 {device, reinterpret_cast<cuda::Stream>(stream)});
  };
  m.def("forward_cuda", forward, py::arg("dtype"), py::arg("sizes"), py::arg("causal"),
        py::arg("softmax_scale"), py::arg("tensors"), py::arg("device"), py::arg("stream"),
        py::call_guard<py::gil_scoped_release>());
  m.def("backward_cuda", backward, py::arg("dtype"), py::arg("sizes"), py::arg("causal"),
        py::arg("softmax_scale"), py::arg("tensors"), py::arg("device"), py::arg("stream"),
        py::call_guard<py::gil_scoped_release>());
  m.def(
      "register_kernel",
      [](std::string name, int arch, bool arch_specific, std::string path, std::string symbol,
         std::vector<std::pair<std::string, std::string>> parameters, int num_scratch_parameters,
         int num_warps, int shared_bytes, std::map<std::string, int64_t> constants) {
        cuda::RegisterKernel({std::move(name), arch, arch_specific, std::move(path),
                              std::move(symbol), std::move(parameters), num_scratch_parameters,
                              num_warps, shared_bytes, std::move(constants)});
      },
      py::kw_only(), py::arg("name"), py::arg("arch"), py::arg("arch_specific"), py::arg("path"),
      py::arg("symbol"), py::arg("parameters"), py::arg("num_scratch_parameters"),
      py::arg("num_warps"), py::arg("shared_bytes"), py::arg("constants"));
}

py::capsule Capsule(XLA_FFI_Error* (*handler)(XLA_FFI_CallFrame*)) {
  return py::capsule(reinterpret_cast<void*>(handler), "xla._CUSTOM_CALL_TARGET");
}

// (target, platform, handler) of each XLA FFI handler.
py::list XlaHandlers() {
  py::list handlers;
  handlers.append(py::make_tuple("hpc_attention_forward", "cpu", Capsule(HpcAttentionForwardCpu)));
  handlers.append(
      py::make_tuple("hpc_attention_backward", "cpu", Capsule(HpcAttentionBackwardCpu)));
  handlers.append(
      py::make_tuple("hpc_attention_forward", "CUDA", Capsule(HpcAttentionForwardCuda)));
  handlers.append(
      py::make_tuple("hpc_attention_backward", "CUDA", Capsule(HpcAttentionBackwardCuda)));
  return handlers;
}

}  // namespace
}  // namespace kernels::attention

PYBIND11_MODULE(_native, m) {
  m.doc() = "Fused attention in C++, for PyTorch and JAX.";
  py::register_exception<kernels::cuda::Error>(m, "CudaError", PyExc_RuntimeError);
  kernels::attention::BindCpu(m);
  kernels::attention::BindCuda(m);
  m.def("xla_handlers", &kernels::attention::XlaHandlers);
  m.def("cpu_isa", [] { return kernels::CpuIsaName(kernels::SelectedCpuIsa()); });
  m.def("num_threads", &kernels::NumThreads);
}
