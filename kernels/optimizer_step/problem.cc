#include "kernels/optimizer_step/problem.h"

#include <stdexcept>
#include <string>

namespace kernels::optimizer_step {
namespace {

void Require(bool holds, const char* what, int64_t got) {
  if (!holds) {
    throw std::invalid_argument(std::string("optimizer_step: ") + what + ", got " +
                                std::to_string(got));
  }
}

}  // namespace

RuleTraits TraitsOf(Rule rule) {
  switch (rule) {
    case Rule::kAdaBelief:
      return {2, 3, 4};
    case Rule::kAdamW:
      return {2, 3, 2};
    case Rule::kAdan:
      return {4, 4, 4};
    case Rule::kLion:
      return {1, 2, 0};
    case Rule::kSophia:
      return {2, 3, 0};
  }
  throw std::invalid_argument("optimizer_step: no rule has the number " +
                              std::to_string(static_cast<int>(rule)));
}

void CheckTensor(const Tensor& t) {
  const int dtype = static_cast<int>(t.dtype);
  Require(t.size >= 0, "size must not be negative", t.size);
  Require(dtype >= 0 && dtype < kNumDTypes, "dtype must be 0, 1 or 2", dtype);
}

void CheckProblem(const Problem& p, const std::vector<Tensor>& tensors) {
  const RuleTraits traits = TraitsOf(p.rule);
  const int64_t hyperparameters = p.hyperparameters.size(), scalars = p.scalars.size();
  Require(hyperparameters == traits.hyperparameters,
          "hyperparameters must be as many as the rule takes", hyperparameters);
  Require(scalars == traits.scalars, "scalars must be as many as the rule takes", scalars);
  for (const Tensor& t : tensors) CheckTensor(t);
}

}  // namespace kernels::optimizer_step
