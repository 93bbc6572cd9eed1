// The Hopper forward from its entry point down to registers, on the host: the driver is
// fake_driver.cc, given as the argument, on which every thread of a launch runs
// forward.h; results must agree with float64.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "kernels/attention/cuda.h"
#include "kernels/attention/problem.h"
#include "kernels/attention/sm90/harness.h"

namespace kernels::attention {
namespace {

template <class Type>
void Forward(const Problem& p, Tensors& t, bool alibi, bool eager) {
  SetOrder(eager);
  ForwardTensors tensors{};
  tensors.q = t.q.data();
  tensors.k = t.k.data();
  tensors.v = t.v.data();
  tensors.out = t.out.data();
  tensors.lse = t.lse.data();
  if (alibi) tensors.extras.alibi_slopes = t.slopes.data();
  ForwardCuda(kDType<Type>, p, tensors, {0, nullptr});
}

// Each probability is rounded once and so is each output, by half a unit in the last place, or, of
// float16, by half of its smallest number.
template <class Type>
void Check(const Problem& p, const Tensors& t, bool alibi, const std::string& name) {
  const Inputs inputs{Numbers<Type>(t.q), Numbers<Type>(t.k), Numbers<Type>(t.v), {}};
  const double rounding = std::ldexp(1.0, -sm90::kFractionBits<Type> - 1);
  const double smallest = std::is_same_v<Type, Float16> ? std::ldexp(1.0, -24) * p.seq_k : 1e-30;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.num_heads; ++h) {
      for (int64_t i = 0; i < p.seq_q; ++i) {
        const double slope = alibi ? t.slopes[b * p.num_heads + h] : 0.0;
        const Expected expected = Attend(p, inputs, slope, b, i, h);
        const std::string where = name + ": batch " + std::to_string(b) + ", head " +
                                  std::to_string(h) + ", query " + std::to_string(i);
        const int64_t row = (b * p.seq_q + i) * p.num_heads + h;
        for (int64_t d = 0; d < p.head_dim; ++d) {
          const double allowed = (rounding + kFloatError) * expected.size[d] +
                                 rounding * std::abs(expected.out[d]) + smallest;
          Near(Decode<Type>(t.out[row * p.head_dim + d]), expected.out[d], allowed, where);
        }
        Near(t.lse[(b * p.num_heads + h) * p.seq_q + i], expected.lse,
             kFloatError * std::max(1.0, std::abs(expected.lse) / 10), where + ": lse");
      }
    }
  }
}

template <class Type>
void CheckCase(const Case& c, int64_t head_dim, bool alibi) {
  const Problem p = ProblemOf(c, head_dim);
  Tensors early = MakeTensors<Type>(p);
  Tensors late = early;
  Forward<Type>(p, early, alibi, true);
  Forward<Type>(p, late, alibi, false);
  Check<Type>(p, late, alibi, c.name);
  if (early.out != late.out || early.lse != late.lse) {
    Fail(std::string(c.name) + ": depends on the order in which threads run");
  }
}

// What is not a number shows where it is seen, and only there.
void CheckNotANumber() {
  const Problem p = ProblemOf({"", 1, 200, 200, 2, 1, kFree, 0}, 128);
  Tensors t = MakeTensors<BFloat16>(p);
  t.q[(17 * p.num_heads + 1) * p.head_dim + 5] = Encode<BFloat16>(NAN);  // Query 17 of head 1.
  t.k[150 * p.head_dim] = Encode<BFloat16>(NAN);
  Forward<BFloat16>(p, t, false, false);
  for (int64_t i = 0; i < p.seq_q; ++i) {
    for (int64_t h = 0; h < p.num_heads; ++h) {
      const bool expected = i >= 150 || (i == 17 && h == 1);
      const float out = Decode<BFloat16>(t.out[(i * p.num_heads + h) * p.head_dim]);
      if (std::isnan(out) != expected) Fail("out is not a number exactly where inputs are not");
      if (std::isnan(t.lse[h * p.seq_q + i]) != expected) Fail("lse likewise");
    }
  }
}

void CheckServed() {
  const Problem good = ProblemOf({"", 1, 2, 3, 4, 2, kFree, 0}, 64);
  const auto served = [](Problem p, DType dtype = DType::kBFloat16, Extras extras = {}) {
    return ServedByCuda(dtype, p, extras);
  };
  if (!served(good) || !served(good, DType::kFloat16)) Fail("a good problem is served");
  if (served(good, DType::kFloat32) || served(good, DType::kFloat64)) Fail("types of four bytes");
  const auto with = [&](auto member, auto value) {
    Problem p = good;
    p.*member = value;
    return p;
  };
  for (const Problem& p :
       {with(&Problem::head_dim, 96), with(&Problem::softcap, 30.0), with(&Problem::batch, 0),
        with(&Problem::dropout_rate, 0.1), with(&Problem::rotary_dim, 32),
        with(&Problem::softmax_scale, 0.0), with(&Problem::seq_k, 0), with(&Problem::seq_q, 0),
        with(&Problem::seq_q, std::numeric_limits<int32_t>::max())}) {
    if (served(p)) Fail("a problem that the kernels do not take is served");
    try {
      Tensors t;
      Forward<BFloat16>(p, t, false, false);
    } catch (const std::invalid_argument&) {
      continue;
    }
    Fail("a problem that the kernels do not take is launched");
  }
  int32_t segment = 0;
  Extras segments{};
  segments.q_segments = segments.kv_segments = &segment;
  if (served(good, DType::kBFloat16, segments)) Fail("segments are served");
}

}  // namespace
}  // namespace kernels::attention

int main(int argc, char** argv) {
  using namespace kernels::attention;
  Start(argc, argv);
  CheckServed();
  CheckNotANumber();
  ForEachCase([](auto type, const Case& c, int64_t head_dim, bool alibi) {
    CheckCase<decltype(type)>(c, head_dim, alibi);
  });
}
