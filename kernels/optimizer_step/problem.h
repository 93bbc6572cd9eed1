// One step of an optimizer over many tensors at once, for every native backend.
//
// The rules are those of //optim, whose files say what each computes; here are their numbers. An
// optimizer keeps slots for each tensor of weights: float32 arrays like it, or bytes.
#ifndef KERNELS_OPTIMIZER_STEP_PROBLEM_H_
#define KERNELS_OPTIMIZER_STEP_PROBLEM_H_

#include <array>
#include <cstdint>
#include <vector>

namespace kernels::optimizer_step {

// Of weights and gradients; all arithmetic is float32.
enum class DType { kFloat16, kBFloat16, kFloat32 };
constexpr int kNumDTypes = 3;

// As RULES in contract.py.
enum class Rule { kAdaBelief, kAdamW, kAdan, kLion, kSophia };
constexpr int kNumRules = 5;

constexpr int kMaxSlots = 4;

// How many numbers of each kind a rule takes; as RULES in contract.py.
struct RuleTraits {
  int slots;
  int hyperparameters;
  int scalars;
};
RuleTraits TraitsOf(Rule rule);

// Slots of bytes are payloads of kernels/quantize, one chunk each: float8_e4m3fn in blocks of
// kBlockSize values, rounded stochastically. A slot that holds no negative numbers is stored as
// its roots.
constexpr int64_t kBlockSize = 256;

struct Problem {
  Rule rule;
  bool decay_is_proximal;
  // Counted from 1; with a tensor's index and the slot, the seed of stochastic rounding.
  int64_t step;
  double rate;
  double weight_decay;
  // In double precision, since 1 - beta is computed of them.
  std::vector<double> hyperparameters;
  // What depends on the step.
  std::vector<double> scalars;
};

struct Tensor {
  int64_t size;
  DType dtype;
  bool has_bytes;  // Its slots are payloads, and not float32 [size].
  bool decays;     // Whether weight_decay is for it.
  int64_t index;   // Among the optimizer's tensors, for the seed.
  void* param;     // [size], updated in place, as the slots are.
  const void* grad;
  std::array<void*, kMaxSlots> slots;
};

// Throws std::invalid_argument for a negative size, or a dtype that there is not.
void CheckTensor(const Tensor& tensor);

// Throws std::invalid_argument for a rule that there is not, a wrong number of numbers, and what
// CheckTensor refuses.
void CheckProblem(const Problem& problem, const std::vector<Tensor>& tensors);

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Of a slot's payload, as Codec.payload_bytes in kernels/quantize: whole blocks of codes, each with
// a scale, and in all a multiple of 16.
constexpr int64_t PayloadBytes(int64_t size) {
  const int64_t bytes = CeilDiv(size, kBlockSize) * (kBlockSize + int64_t{sizeof(float)});
  return CeilDiv(bytes, 16) * 16;
}

// As `seed` in contract.py.
inline uint32_t Seed(int64_t step, int64_t index, int slot) {
  return static_cast<uint32_t>(step) * 0x9e3779b1u + static_cast<uint32_t>(index) * 0x85ebca77u +
         static_cast<uint32_t>(slot) * 0xc2b2ae3du;
}

}  // namespace kernels::optimizer_step

#endif  // KERNELS_OPTIMIZER_STEP_PROBLEM_H_
