// The Python module kernels.optimizer_step._native: one binary for PyTorch (functions on addresses)
// and JAX (XLA FFI handlers in capsules).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/native/python_module.h"
#include "kernels/optimizer_step/cpu.h"
#include "kernels/optimizer_step/cuda.h"
#include "kernels/optimizer_step/problem.h"
#include "kernels/optimizer_step/xla_handlers.h"

namespace py = pybind11;

namespace kernels::optimizer_step {
namespace {

// A tensor's row, as _native.pyi has it: these, and the address of each slot.
constexpr size_t kRowHead = 7;

std::vector<Tensor> ToTensors(const std::vector<int64_t>& rows, size_t num_slots) {
  const size_t width = kRowHead + num_slots;
  if (rows.size() % width != 0) {
    throw std::invalid_argument("optimizer_step: rows must have " + std::to_string(width) +
                                " numbers each, got " + std::to_string(rows.size()) + " in all");
  }
  const auto address = [](int64_t number) { return reinterpret_cast<void*>(number); };
  std::vector<Tensor> tensors;
  tensors.reserve(rows.size() / width);
  for (const int64_t* row = rows.data(); row != rows.data() + rows.size(); row += width) {
    Tensor t{row[0],          static_cast<DType>(row[1]),
             row[2] != 0,     row[3] != 0,
             row[4],          address(row[5]),
             address(row[6]), {}};
    for (size_t k = 0; k < num_slots; ++k) t.slots[k] = address(row[kRowHead + k]);
    tensors.push_back(t);
  }
  return tensors;
}

// Counters are float32, as those of torch's own optimizers.
std::vector<int64_t> CountUp(const std::vector<uintptr_t>& counters) {
  std::vector<int64_t> counts;
  counts.reserve(counters.size());
  for (const uintptr_t address : counters) {
    float* const counter = reinterpret_cast<float*>(address);
    counts.push_back(static_cast<int64_t>(*counter += 1.0f));
  }
  return counts;
}

void StepOnCpu(int rule, bool decay_is_proximal, int64_t step, double rate, double weight_decay,
               const std::vector<double>& hyperparameters, const std::vector<double>& scalars,
               const std::vector<int64_t>& rows) {
  const Problem problem{static_cast<Rule>(rule),
                        decay_is_proximal,
                        step,
                        rate,
                        weight_decay,
                        hyperparameters,
                        scalars};
  StepCpu(problem, ToTensors(rows, TraitsOf(problem.rule).slots));
}

// Where `numbers` has the rate and the scalars, after the step.
constexpr int64_t kFirstNumber = 4;

void StepOnCuda(int rule, bool decay_is_proximal, double weight_decay,
                const std::vector<double>& hyperparameters, uintptr_t numbers,
                const std::vector<int64_t>& rows, int device, uintptr_t stream) {
  Problem problem{};
  problem.rule = static_cast<Rule>(rule);
  problem.decay_is_proximal = decay_is_proximal;
  problem.weight_decay = weight_decay;
  problem.hyperparameters = hyperparameters;
  const RuleTraits traits = TraitsOf(problem.rule);
  problem.scalars.resize(traits.scalars);
  int32_t* const step = reinterpret_cast<int32_t*>(numbers);
  StepCuda(problem, ToTensors(rows, traits.slots),
           {step, reinterpret_cast<float*>(step + kFirstNumber)},
           {device, reinterpret_cast<cuda::Stream>(stream)});
}

}  // namespace
}  // namespace kernels::optimizer_step

PYBIND11_MODULE(_native, m) {
  m.doc() = "A step of an optimizer over many tensors in C++, for PyTorch and JAX.";
  kernels::DefineCommon(m);
  m.def("count_up", &kernels::optimizer_step::CountUp, py::arg("counters"));
  m.def("step_cpu", &kernels::optimizer_step::StepOnCpu, py::kw_only(), py::arg("rule"),
        py::arg("decay_is_proximal"), py::arg("step"), py::arg("rate"), py::arg("weight_decay"),
        py::arg("hyperparameters"), py::arg("scalars"), py::arg("rows"),
        py::call_guard<py::gil_scoped_release>());
  m.def("step_cuda", &kernels::optimizer_step::StepOnCuda, py::kw_only(), py::arg("rule"),
        py::arg("decay_is_proximal"), py::arg("weight_decay"), py::arg("hyperparameters"),
        py::arg("numbers"), py::arg("rows"), py::arg("device"), py::arg("stream"),
        py::call_guard<py::gil_scoped_release>());
  m.def("xla_handlers", [] {
    py::list handlers;
    const char* const target = "hpc_optimizer_step";
    handlers.append(py::make_tuple(target, "cpu", kernels::XlaCapsule(HpcOptimizerStepCpu)));
    handlers.append(py::make_tuple(target, "CUDA", kernels::XlaCapsule(HpcOptimizerStepCuda)));
    return handlers;
  });
}
