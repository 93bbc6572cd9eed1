// What the Python module of every operation has, whatever it computes.
//
// For the .cc file of a pybind_extension only, which has pybind11's headers.
#ifndef KERNELS_NATIVE_PYTHON_MODULE_H_
#define KERNELS_NATIVE_PYTHON_MODULE_H_

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/native/cpu_isa.h"
#include "kernels/native/cuda_launch.h"
#include "kernels/native/parallel.h"

namespace kernels {

// A handler in the form in which jax.ffi.register_ffi_target takes it. `Handler` is XLA's function
// pointer, whose types this header need not know.
template <typename Handler>
pybind11::capsule XlaCapsule(Handler handler) {
  return pybind11::capsule(reinterpret_cast<void*>(handler), "xla._CUSTOM_CALL_TARGET");
}

// Defines CudaError, register_kernel, which kernels/cubin_loader.py calls, and the instructions and
// threads in use.
inline void DefineCommon(pybind11::module_& m) {
  namespace py = pybind11;
  py::register_exception<cuda::Error>(m, "CudaError", PyExc_RuntimeError);
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
  m.def("cpu_isa", [] { return CpuIsaName(SelectedCpuIsa()); });
  // PyTorch's side calls it; XLA's threads are no business of OpenMP's.
  m.def(
      "limit_threads",
      [](int limit) {
        ShareOpenMp();
        LimitThreads(limit);
      },
      py::arg("limit"));
  m.def("num_threads", &NumThreads);
}

}  // namespace kernels

#endif  // KERNELS_NATIVE_PYTHON_MODULE_H_
