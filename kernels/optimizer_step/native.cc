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
#include "kernels/optimizer_step/problem.h"
#include "kernels/optimizer_step/triton.h"
#include "kernels/optimizer_step/xla_handlers.h"

namespace py = pybind11;

namespace kernels::optimizer_step {
namespace {

// A tensor's row, as _native.pyi has it: these, and of the weights, the gradient and each slot its
// address and its bytes.
constexpr size_t kRowHead = 5;

// The last line of defence: an array has all the bytes that the tensor's size makes a step touch.
void* ToAddress(const int64_t* array, int64_t needed) {
  if (array[1] < needed || (needed > 0 && array[0] == 0)) {
    throw std::invalid_argument("optimizer_step: an array must have " + std::to_string(needed) +
                                " bytes, got " + std::to_string(array[0] == 0 ? 0 : array[1]));
  }
  return reinterpret_cast<void*>(array[0]);
}

std::vector<Tensor> ToTensors(const std::vector<int64_t>& rows, size_t num_slots) {
  const size_t width = kRowHead + 2 * (2 + num_slots);
  if (rows.size() % width != 0) {
    throw std::invalid_argument("optimizer_step: rows must have " + std::to_string(width) +
                                " numbers each, got " + std::to_string(rows.size()) + " in all");
  }
  std::vector<Tensor> tensors;
  tensors.reserve(rows.size() / width);
  for (const int64_t* row = rows.data(); row != rows.data() + rows.size(); row += width) {
    Tensor t{};
    t.size = row[0];
    t.dtype = static_cast<DType>(row[1]);
    t.has_bytes = row[2] != 0;
    t.decays = row[3] != 0;
    t.index = row[4];
    CheckTensor(t);
    const int64_t weight_bytes = t.size * (t.dtype == DType::kFloat32 ? 4 : 2);
    const int64_t slot_bytes = t.has_bytes ? PayloadBytes(t.size) : t.size * int64_t{4};
    t.param = ToAddress(row + kRowHead, weight_bytes);
    t.grad = ToAddress(row + kRowHead + 2, weight_bytes);
    for (size_t k = 0; k < num_slots; ++k) {
      t.slots[k] = ToAddress(row + kRowHead + 4 + 2 * k, slot_bytes);
    }
    tensors.push_back(t);
  }
  return tensors;
}

// Counters are float32, as those of torch's own optimizers.
float* ToCounter(uintptr_t address) { return reinterpret_cast<float*>(address); }

std::vector<int64_t> ReadCounters(const std::vector<uintptr_t>& counters) {
  std::vector<int64_t> counts;
  counts.reserve(counters.size());
  for (const uintptr_t address : counters) {
    const float count = *ToCounter(address);
    if (!(count >= 0.0f && count < 0x1p31f)) {  // NaN neither
      throw std::invalid_argument("optimizer_step: a step must be a count of updates, got " +
                                  std::to_string(count));
    }
    counts.push_back(static_cast<int64_t>(count));
  }
  return counts;
}

void CountUp(const std::vector<uintptr_t>& counters) {
  for (const uintptr_t address : counters) *ToCounter(address) += 1.0f;
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
  StepTriton(problem, ToTensors(rows, traits.slots),
             {step, reinterpret_cast<float*>(step + kFirstNumber)},
             {device, reinterpret_cast<cuda::Stream>(stream)});
}

}  // namespace
}  // namespace kernels::optimizer_step

PYBIND11_MODULE(_native, m) {
  m.doc() = "A step of an optimizer over many tensors in C++, for PyTorch and JAX.";
  kernels::DefineCommon(m);
  m.def("read_counters", &kernels::optimizer_step::ReadCounters, py::arg("counters"));
  m.def("count_up", &kernels::optimizer_step::CountUp, py::arg("counters"));
  m.def("step_cpu", &kernels::optimizer_step::StepOnCpu, py::kw_only(), py::arg("rule"),
        py::arg("decay_is_proximal"), py::arg("step"), py::arg("rate"), py::arg("weight_decay"),
        py::arg("hyperparameters"), py::arg("scalars"), py::arg("rows"),
        py::call_guard<py::gil_scoped_release>());
  m.def("step_triton", &kernels::optimizer_step::StepOnCuda, py::kw_only(), py::arg("rule"),
        py::arg("decay_is_proximal"), py::arg("weight_decay"), py::arg("hyperparameters"),
        py::arg("numbers"), py::arg("rows"), py::arg("device"), py::arg("stream"),
        py::call_guard<py::gil_scoped_release>());
  m.def("xla_handlers", [] {
    py::list handlers;
    const char* const target = "hpc_optimizer_step";
    handlers.append(py::make_tuple(target, "cpu", kernels::XlaCapsule(HpcOptimizerStepCpu)));
    handlers.append(py::make_tuple(target, "CUDA", kernels::XlaCapsule(HpcOptimizerStepTriton)));
    return handlers;
  });
}
