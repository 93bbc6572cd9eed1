// The gradients of keys and values on Hopper, as sm90_test.cc does the forward.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/attention/cuda.h"
#include "kernels/attention/problem.h"
#include "kernels/attention/sm90/harness.h"

namespace kernels::attention {
namespace {

// From lse and delta of the specification, as Triton's kernels take them from out and grad_out.
template <class Type>
void BackwardKeys(const Problem& p, Tensors& t, bool alibi, bool eager) {
  SetOrder(eager);
  BackwardTensors tensors{};
  tensors.q = t.q.data();
  tensors.k = t.k.data();
  tensors.v = t.v.data();
  tensors.grad_out = t.grad_out.data();
  tensors.lse = t.lse.data();
  tensors.delta = t.delta.data();
  tensors.grad_k = t.grad_k.data();
  tensors.grad_v = t.grad_v.data();
  if (alibi) tensors.extras.alibi_slopes = t.slopes.data();
  BackwardKeysCuda(kDType<Type>, p, tensors, {0, nullptr});
}

// Gradients, and the sizes of the terms summed there.
struct ExpectedKeys {
  std::vector<double> grad_k, grad_v, size_k, size_v;
};

// Adds what a query gives; sets its lse and delta.
void AddQuery(const Problem& p, const Inputs& x, bool alibi, int64_t b, int64_t i, int64_t h,
              Tensors& t, ExpectedKeys& expected) {
  const double slope = alibi ? t.slopes[b * p.num_heads + h] : 0.0;
  const Expected forward = Attend(p, x, slope, b, i, h);
  const std::vector<double> scores = Scores(p, x, slope, b, i, h);
  const int64_t query = ((b * p.seq_q + i) * p.num_heads + h) * p.head_dim;
  double delta = 0;
  for (int64_t d = 0; d < p.head_dim; ++d) delta += forward.out[d] * x.grad_out[query + d];
  t.lse[(b * p.num_heads + h) * p.seq_q + i] = static_cast<float>(forward.lse);
  t.delta[(b * p.num_heads + h) * p.seq_q + i] = static_cast<float>(delta);
  if (forward.lse == -INFINITY) return;
  for (int64_t j = 0; j < p.seq_k; ++j) {
    const double probability = std::exp(scores[j] - forward.lse);
    const int64_t key =
        ((b * p.seq_k + j) * p.num_kv_heads + h / (p.num_heads / p.num_kv_heads)) * p.head_dim;
    double grad_p = 0, size_p = 0;
    for (int64_t d = 0; d < p.head_dim; ++d) {
      grad_p += x.grad_out[query + d] * x.v[key + d];
      size_p += std::abs(x.grad_out[query + d] * x.v[key + d]);
    }
    const double grad_score = p.softmax_scale * probability * (grad_p - delta);
    // Rounded to half a unit like grad_score; float errors are relative to the terms of grad_p.
    const double size = std::abs(grad_score) + 1e-2 * p.softmax_scale * probability * size_p;
    for (int64_t d = 0; d < p.head_dim; ++d) {
      expected.grad_v[key + d] += probability * x.grad_out[query + d];
      expected.size_v[key + d] += probability * std::abs(x.grad_out[query + d]);
      expected.grad_k[key + d] += grad_score * x.q[query + d];
      expected.size_k[key + d] += size * std::abs(x.q[query + d]);
    }
  }
}

template <class Type>
void CheckCase(const Case& c, int64_t head_dim, bool alibi) {
  const Problem p = ProblemOf(c, head_dim);
  const std::string name = c.name;
  Tensors early = MakeTensors<Type>(p);
  const Inputs inputs{Numbers<Type>(early.q), Numbers<Type>(early.k), Numbers<Type>(early.v),
                      Numbers<Type>(early.grad_out)};
  early.delta.assign(early.lse.size(), NAN);
  const std::vector<double> zeros(early.k.size());
  ExpectedKeys expected{zeros, zeros, zeros, zeros};
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i = 0; i < p.seq_q; ++i) {
      for (int64_t h = 0; h < p.num_heads; ++h) {
        AddQuery(p, inputs, alibi, b, i, h, early, expected);
      }
    }
  }
  Tensors late = early;
  BackwardKeys<Type>(p, early, alibi, true);
  BackwardKeys<Type>(p, late, alibi, false);
  const double rounding = std::ldexp(1.0, -sm90::kFractionBits<Type> - 1);
  const double smallest =
      std::is_same_v<Type, Float16> ? std::ldexp(1.0, -24) * p.seq_q * 4 : 1e-30;
  const auto allowed = [&](double size, double value) {
    return (rounding + 2 * kFloatError) * size + rounding * std::abs(value) + smallest;
  };
  for (size_t i = 0; i < late.k.size(); ++i) {
    Near(Decode<Type>(late.grad_k[i]), expected.grad_k[i],
         allowed(expected.size_k[i], expected.grad_k[i]), name + ": grad_k " + std::to_string(i));
    Near(Decode<Type>(late.grad_v[i]), expected.grad_v[i],
         allowed(expected.size_v[i], expected.grad_v[i]), name + ": grad_v " + std::to_string(i));
  }
  if (early.grad_k != late.grad_k || early.grad_v != late.grad_v) {
    Fail(name + ": gradients depend on the order in which threads run");
  }
}

}  // namespace
}  // namespace kernels::attention

int main(int argc, char** argv) {
  using namespace kernels::attention;
  Start(argc, argv);
  ForEachCase([](auto type, const Case& c, int64_t head_dim, bool alibi) {
    CheckCase<decltype(type)>(c, head_dim, alibi);
  });
}
