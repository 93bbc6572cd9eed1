// The Python module kernels.attention._native: one binary for PyTorch (functions on addresses) and
// JAX (XLA FFI handlers in capsules).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>

#include "kernels/attention/cpu.h"
#include "kernels/attention/cuda.h"
#include "kernels/attention/problem.h"
#include "kernels/attention/triton.h"
#include "kernels/attention/xla_handlers.h"
#include "kernels/native/cpu_isa.h"
#include "kernels/native/python_module.h"

namespace py = pybind11;

namespace kernels::attention {
namespace {

// As contract.Sizes and contract.Options.
using Sizes = std::array<int64_t, 6>;
using Options = std::tuple<double, int64_t, int64_t, double, double, int64_t, bool>;

// Addresses of tensors, as torch.Tensor.data_ptr() gives them, in the order of the structs; 0 where
// there is none.
using ForwardAddresses = std::array<uintptr_t, 13>;
using BackwardAddresses = std::array<uintptr_t, 20>;

void* Pointer(uintptr_t address) { return reinterpret_cast<void*>(address); }

Extras ToExtras(const uintptr_t* a) {
  return {Pointer(a[0]),
          Pointer(a[1]),
          Pointer(a[2]),
          reinterpret_cast<int32_t*>(a[3]),
          reinterpret_cast<int32_t*>(a[4]),
          reinterpret_cast<uint32_t*>(a[5])};
}

ForwardTensors ToTensors(const ForwardAddresses& a) {
  return {Pointer(a[0]), Pointer(a[1]), Pointer(a[2]), Pointer(a[3]),
          Pointer(a[4]), Pointer(a[5]), Pointer(a[6]), ToExtras(&a[7])};
}

BackwardTensors ToTensors(const BackwardAddresses& a) {
  return {Pointer(a[0]),  Pointer(a[1]),  Pointer(a[2]),  Pointer(a[3]),  Pointer(a[4]),
          Pointer(a[5]),  Pointer(a[6]),  Pointer(a[7]),  Pointer(a[8]),  Pointer(a[9]),
          Pointer(a[10]), Pointer(a[11]), Pointer(a[12]), Pointer(a[13]), ToExtras(&a[14])};
}

DType ToDType(const std::string& name) {
  for (DType dtype : {DType::kFloat16, DType::kBFloat16, DType::kFloat32, DType::kFloat64}) {
    if (name == DTypeName(dtype)) return dtype;
  }
  throw std::invalid_argument("dtype must be float16, bfloat16, float32 or float64, got " + name);
}

Problem ToProblem(const Sizes& s, const Options& o) {
  return {s[0],           s[1],           s[2],           s[3],           s[4],
          s[5],           std::get<0>(o), std::get<1>(o), std::get<2>(o), std::get<3>(o),
          std::get<4>(o), std::get<5>(o), std::get<6>(o)};
}

void BindCpu(py::module_& m) {
  const auto forward = [](const std::string& dtype, const Sizes& sizes, const Options& options,
                          const ForwardAddresses& tensors) {
    ForwardCpu(ToDType(dtype), ToProblem(sizes, options), ToTensors(tensors));
  };
  const auto backward = [](const std::string& dtype, const Sizes& sizes, const Options& options,
                           const BackwardAddresses& tensors) {
    BackwardCpu(ToDType(dtype), ToProblem(sizes, options), ToTensors(tensors));
  };
  m.def("forward_cpu", forward, py::arg("dtype"), py::arg("sizes"), py::arg("options"),
        py::arg("tensors"), py::call_guard<py::gil_scoped_release>());
  m.def("backward_cpu", backward, py::arg("dtype"), py::arg("sizes"), py::arg("options"),
        py::arg("tensors"), py::call_guard<py::gil_scoped_release>());
  const auto elementwise = [&m](const char* name, auto function) {
    m.def(
        name,
        [function](uintptr_t in, int64_t count, uintptr_t out) {
          function(static_cast<const float*>(Pointer(in)), count,
                   static_cast<float*>(Pointer(out)));
        },
        py::arg("input"), py::arg("count"), py::arg("output"));
  };
  elementwise("exp2_cpu", Exp2Cpu);
  elementwise("tanh_cpu", TanhCpu);
}

// The calls of one of the backends that queue what they do, as forward_NAME and backward_NAME.
template <typename Forward, typename Backward>
void BindQueued(py::module_& m, const std::string& name, Forward forward, Backward backward) {
  m.def(("forward_" + name).c_str(),
        [forward](const std::string& dtype, const Sizes& sizes, const Options& options,
                  const ForwardAddresses& tensors, int device, uintptr_t stream) {
          forward(ToDType(dtype), ToProblem(sizes, options), ToTensors(tensors),
                  cuda::Queue{device, reinterpret_cast<cuda::Stream>(stream)});
        },
        py::arg("dtype"), py::arg("sizes"), py::arg("options"), py::arg("tensors"),
        py::arg("device"), py::arg("stream"), py::call_guard<py::gil_scoped_release>());
  m.def(("backward_" + name).c_str(),
        [backward](const std::string& dtype, const Sizes& sizes, const Options& options,
                   const BackwardAddresses& tensors, int device, uintptr_t stream) {
          backward(ToDType(dtype), ToProblem(sizes, options), ToTensors(tensors),
                   cuda::Queue{device, reinterpret_cast<cuda::Stream>(stream)});
        },
        py::arg("dtype"), py::arg("sizes"), py::arg("options"), py::arg("tensors"),
        py::arg("device"), py::arg("stream"), py::call_guard<py::gil_scoped_release>());
}

void BindQueuedBackends(py::module_& m) {
  BindQueued(m, "triton", ForwardTriton, BackwardTriton);
  BindQueued(m, "cuda", ForwardCuda, BackwardCuda);
}

// (target, platform, handler) of each XLA FFI handler.
py::list XlaHandlers() {
  py::list handlers;
  const auto add = [&](const char* target, const char* platform, auto handler) {
    handlers.append(py::make_tuple(target, platform, XlaCapsule(handler)));
  };
  add("hpc_attention_forward", "cpu", HpcAttentionForwardCpu);
  add("hpc_attention_backward", "cpu", HpcAttentionBackwardCpu);
  add("hpc_attention_forward", "CUDA", HpcAttentionForwardTriton);
  add("hpc_attention_backward", "CUDA", HpcAttentionBackwardTriton);
  add("hpc_attention_forward_cuda", "CUDA", HpcAttentionForwardCuda);
  add("hpc_attention_backward_cuda", "CUDA", HpcAttentionBackwardCuda);
  return handlers;
}

}  // namespace
}  // namespace kernels::attention

PYBIND11_MODULE(_native, m) {
  m.doc() = "Fused attention in C++, for PyTorch and JAX.";
  kernels::DefineCommon(m);
  kernels::attention::BindCpu(m);
  kernels::attention::BindQueuedBackends(m);
  m.def("xla_handlers", &kernels::attention::XlaHandlers);
  m.def("matrix_isa", [] { return kernels::MatrixIsaName(kernels::SelectedMatrixIsa()); });
}
