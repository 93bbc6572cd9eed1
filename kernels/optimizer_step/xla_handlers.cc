#include "kernels/optimizer_step/xla_handlers.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/native/xla_calls.h"
#include "kernels/optimizer_step/cpu.h"
#include "kernels/optimizer_step/problem.h"
#include "kernels/optimizer_step/triton.h"

namespace kernels::optimizer_step {
namespace {

constexpr size_t kFirstTensor = 2;  // After the scalars and the step.

DType ToDType(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::F16:
      return DType::kFloat16;
    case ffi::DataType::BF16:
      return DType::kBFloat16;
    case ffi::DataType::F32:
      return DType::kFloat32;
    default:
      throw std::invalid_argument("optimizer_step takes float16, bfloat16 or float32");
  }
}

void Require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(std::string("optimizer_step: ") + what);
}

bool Is(const ffi::AnyBuffer& array, ffi::DataType type, int64_t count) {
  return array.element_type() == type && static_cast<int64_t>(array.element_count()) == count;
}

// All but the step, the rate and the values of the scalars, which may be on a device.
Problem ToProblem(const Arrays& in, const ffi::Dictionary& attributes) {
  Require(in.size() >= kFirstTensor, "expected the scalars, the step and tensors");
  const ffi::AnyBuffer numbers = Array(in, 0);
  Require(numbers.element_type() == ffi::DataType::F32 && numbers.element_count() > 0,
          "the rate and the scalars must be float32");
  Require(Is(Array(in, 1), ffi::DataType::S32, 1), "the step must be one int32");
  const auto hyperparameters = Attribute<ffi::Span<const double>>(attributes, "hyperparameters");
  Problem problem{};
  problem.rule = static_cast<Rule>(Attribute<int64_t>(attributes, "rule"));
  problem.decay_is_proximal = Attribute<int64_t>(attributes, "decay_is_proximal") != 0;
  problem.weight_decay = Attribute<double>(attributes, "weight_decay");
  problem.hyperparameters.assign(hyperparameters.begin(), hyperparameters.end());
  problem.scalars.resize(numbers.element_count() - 1);
  return problem;
}

DeviceNumbers ToNumbers(const Arrays& in) {
  return {static_cast<int32_t*>(Array(in, 1).untyped_data()),
          static_cast<float*>(Array(in, 0).untyped_data())};
}

// The last line of defence: a kernel reads and writes as much as the weights are, and no array is
// smaller.
void CheckArrays(const Arrays& in, size_t first, size_t num_slots) {
  const ffi::AnyBuffer param = Array(in, first);
  const int64_t size = param.element_count();
  Require(Is(Array(in, first + 1), param.element_type(), size),
          "a gradient must be like its weights");
  const bool has_bytes = Array(in, first + 2).element_type() == ffi::DataType::U8;
  const auto type = has_bytes ? ffi::DataType::U8 : ffi::DataType::F32;
  for (size_t k = 0; k < num_slots; ++k) {
    Require(Is(Array(in, first + 2 + k), type, has_bytes ? PayloadBytes(size) : size),
            "slots must be all float32 like their weights, or all payloads");
  }
}

std::vector<Tensor> ToTensors(const Arrays& in, const Outputs& out, const Problem& problem,
                              const ffi::Dictionary& attributes) {
  const auto decays = Attribute<ffi::Span<const int64_t>>(attributes, "decays");
  const size_t num_slots = TraitsOf(problem.rule).slots;
  const size_t num_tensors = decays.size();
  if (in.size() != kFirstTensor + num_tensors * (2 + num_slots) ||
      out.size() != num_tensors * (1 + num_slots)) {
    throw std::invalid_argument("an operation is called with a wrong number of arrays");
  }
  std::vector<Tensor> tensors;
  for (size_t i = 0; i < num_tensors; ++i) {
    const size_t first = kFirstTensor + i * (2 + num_slots);
    CheckArrays(in, first, num_slots);
    const ffi::AnyBuffer param = Array(in, first);
    Tensor t{static_cast<int64_t>(param.element_count()),
             ToDType(param.element_type()),
             Array(in, first + 2).element_type() == ffi::DataType::U8,
             decays[i] != 0,
             static_cast<int64_t>(i),
             param.untyped_data(),
             Array(in, first + 1).untyped_data(),
             {}};
    for (size_t k = 0; k <= num_slots; ++k) {
      void* const data = k == 0 ? t.param : Array(in, first + 1 + k).untyped_data();
      if (Array(out, i * (1 + num_slots) + k).untyped_data() != data) {
        throw std::invalid_argument("optimizer_step updates its arguments in place");
      }
      if (k > 0) t.slots[k - 1] = data;
    }
    tensors.push_back(t);
  }
  return tensors;
}

ffi::Error StepOnCpu(ffi::ThreadPool pool, Arrays in, Outputs out, ffi::Dictionary attributes) {
  RespectThreads(pool);
  return Guard([&] {
    Problem problem = ToProblem(in, attributes);
    const auto [step, numbers] = ToNumbers(in);
    problem.step = *step;
    problem.rate = numbers[0];
    for (size_t i = 0; i < problem.scalars.size(); ++i) problem.scalars[i] = numbers[1 + i];
    StepCpu(problem, ToTensors(in, out, problem, attributes));
  });
}

ffi::Error StepOnCuda(cuda::Stream stream, int32_t device, Arrays in, Outputs out,
                      ffi::Dictionary attributes) {
  return Guard([&] {
    const Problem problem = ToProblem(in, attributes);
    StepTriton(problem, ToTensors(in, out, problem, attributes), ToNumbers(in), {device, stream});
  });
}

}  // namespace
}  // namespace kernels::optimizer_step

XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcOptimizerStepCpu, kernels::optimizer_step::StepOnCpu,
                              kernels::CpuBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(HpcOptimizerStepTriton, kernels::optimizer_step::StepOnCuda,
                              kernels::CudaBinding());
