#include "kernels/optimizer_step/triton.h"

#include <array>
#include <cstdint>
#include <string>

#include "kernels/native/cuda_launch.h"

namespace kernels::optimizer_step {
namespace {

// As TILE in kernels/quantize/triton_tiles.py.
constexpr int64_t kTile = 4096;

constexpr int kMaxHyperparameters = 4;

const char* RuleName(Rule rule) {
  constexpr const char* kNames[kNumRules] = {"adabelief", "adamw", "adan", "lion", "sophia"};
  return kNames[static_cast<int>(rule)];
}

const char* DTypeName(DType dtype) {
  constexpr const char* kNames[kNumDTypes] = {"float16", "bfloat16", "float32"};
  return kNames[static_cast<int>(dtype)];
}

// The variants of the kernel for one rule: of each dtype and kind of slots. Most calls need one.
class Variants {
 public:
  Variants(Rule rule, int device) : rule_(rule), device_(device) {}

  const cuda::LoadedKernel& For(const Tensor& t) {
    const cuda::LoadedKernel*& found = found_[2 * static_cast<int>(t.dtype) + t.has_bytes];
    if (found == nullptr) {
      const std::string name = std::string(RuleName(rule_)) + "_" + DTypeName(t.dtype);
      found = &cuda::FindKernel(name + (t.has_bytes ? "_bytes" : "_floats"), device_);
    }
    return *found;
  }

 private:
  const Rule rule_;
  const int device_;
  std::array<const cuda::LoadedKernel*, 2 * kNumDTypes> found_{};
};

}  // namespace

void StepTriton(const Problem& p, const std::vector<Tensor>& tensors, DeviceNumbers numbers,
                cuda::Queue queue) {
  CheckProblem(p, tensors);
  // Each and 1 minus it, in double precision till here.
  std::array<float, kMaxHyperparameters> hyper{}, rest{};
  for (size_t i = 0; i < p.hyperparameters.size(); ++i) {
    hyper[i] = static_cast<float>(p.hyperparameters[i]);
    rest[i] = static_cast<float>(1.0 - p.hyperparameters[i]);
  }
  Variants variants(p.rule, queue.device);
  for (const Tensor& t : tensors) {
    cuda::Launch(variants.For(t), queue.stream, CeilDiv(t.size, kTile),
                 {{"step_ptr", numbers.step},
                  {"numbers_ptr", numbers.numbers},
                  {"param_ptr", t.param},
                  {"grad_ptr", const_cast<void*>(t.grad)},
                  {"slot0_ptr", t.slots[0]},
                  {"slot1_ptr", t.slots[1]},
                  {"slot2_ptr", t.slots[2]},
                  {"slot3_ptr", t.slots[3]},
                  {"size", t.size},
                  {"index", static_cast<int32_t>(t.index)},
                  {"weight_decay", static_cast<float>(t.decays ? p.weight_decay : 0.0)},
                  {"is_proximal", static_cast<int32_t>(t.decays && p.decay_is_proximal)},
                  {"hyper0", hyper[0]},
                  {"hyper1", hyper[1]},
                  {"hyper2", hyper[2]},
                  {"hyper3", hyper[3]},
                  {"rest0", rest[0]},
                  {"rest1", rest[1]},
                  {"rest2", rest[2]}});
  }
}

}  // namespace kernels::optimizer_step
