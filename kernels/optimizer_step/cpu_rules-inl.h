// The rules, a vector of weights at a time. Compiled once per instruction set (simd-inl.h).
//
// As in //optim, operation by operation: each is rounded by itself (-ffp-contract=off).
#ifndef KERNELS_OPTIMIZER_STEP_CPU_RULES_INL_H_
#define KERNELS_OPTIMIZER_STEP_CPU_RULES_INL_H_

#include "kernels/optimizer_step/problem.h"
#include "kernels/quantize/cpu_blocks-inl.h"

namespace kernels::optimizer_step {
namespace KERNELS_ISA {

using ::kernels::KERNELS_ISA::Broadcast;
using quantize::KERNELS_ISA::Floats;
using quantize::KERNELS_ISA::kWidth;

inline Floats Constant(double x) { return Broadcast(static_cast<float>(x)); }

inline Floats Sqrt(Floats x) {
#if KERNELS_VECTOR_BYTES == 64
  return _mm512_maskz_sqrt_ps(0xffff, x);
#elif KERNELS_VECTOR_BYTES == 32
  return _mm256_sqrt_ps(x);
#else
  for (int lane = 0; lane < kWidth; ++lane) x[lane] = std::sqrt(x[lane]);
  return x;
#endif
}

// 0 of a number, and NaN of what is none or infinite.
inline Floats Unknown(Floats x) { return x - x; }

// A moving average: beta * old + (1 - beta) * value.
struct Average {
  explicit Average(double beta) : old_weight(Constant(beta)), new_weight(Constant(1.0 - beta)) {}
  Floats operator()(Floats old, Floats value) const {
    return old_weight * old + new_weight * value;
  }
  Floats old_weight, new_weight;
};

// Each rule has its number of slots, a bit for each that holds no negative numbers, and for each
// that a step changes; and returns the direction, having brought the slots up to date.

struct AdaBelief {
  static constexpr int kSlots = 2;
  static constexpr unsigned kSquares = 0b10, kChanged = 0b11;
  explicit AdaBelief(const Problem& p)
      : average(p.hyperparameters[0]),
        square_average(p.hyperparameters[1]),
        epsilon(Constant(p.hyperparameters[2])),
        momentum(Constant(p.scalars[0])),
        deviation(Constant(p.scalars[1])),
        adaptive(Constant(p.scalars[2])),
        plain(Constant(p.scalars[3])) {}
  Floats operator()(Floats g, Floats* slots) const {
    Floats& m = slots[0];
    Floats& s = slots[1];
    m = average(m, g);
    const Floats surprise = g - m;
    s = square_average(s, surprise * surprise) + epsilon;
    const Floats scale = 1.0f / (Sqrt(s * deviation) + epsilon) * adaptive;
    return m * momentum * (scale + plain);
  }
  Average average, square_average;
  Floats epsilon, momentum, deviation, adaptive, plain;
};

struct AdamW {
  static constexpr int kSlots = 2;
  static constexpr unsigned kSquares = 0b10, kChanged = 0b11;
  explicit AdamW(const Problem& p)
      : average(p.hyperparameters[0]),
        square_average(p.hyperparameters[1]),
        epsilon(Constant(p.hyperparameters[2])),
        momentum(Constant(p.scalars[0])),
        second_moment(Constant(p.scalars[1])) {}
  Floats operator()(Floats g, Floats* slots) const {
    Floats& m = slots[0];
    Floats& v = slots[1];
    m = average(m, g);
    v = square_average(v, g * g);
    return m * momentum / (Sqrt(v * second_moment) + epsilon);
  }
  Average average, square_average;
  Floats epsilon, momentum, second_moment;
};

struct Adan {
  static constexpr int kSlots = 4;
  static constexpr unsigned kSquares = 0b0100, kChanged = 0b1111;
  explicit Adan(const Problem& p)
      : average(p.hyperparameters[0]),
        difference_average(p.hyperparameters[1]),
        square_average(p.hyperparameters[2]),
        beta2(Constant(p.hyperparameters[1])),
        epsilon(Constant(p.hyperparameters[3])),
        momentum(Constant(p.scalars[0])),
        difference_momentum(Constant(p.scalars[1])),
        second_moment(Constant(p.scalars[2])),
        has_previous(Constant(p.scalars[3])) {}
  Floats operator()(Floats g, Floats* slots) const {
    Floats& m = slots[0];
    Floats& v = slots[1];
    Floats& n = slots[2];
    Floats& previous = slots[3];
    const Floats difference = (g - previous) * has_previous;
    const Floats ahead = g + beta2 * difference;
    m = average(m, g);
    v = difference_average(v, difference);
    n = square_average(n, ahead * ahead);
    previous = g;
    return (m * momentum + v * difference_momentum) / (Sqrt(n * second_moment) + epsilon);
  }
  Average average, difference_average, square_average;
  Floats beta2, epsilon, momentum, difference_momentum, second_moment, has_previous;
};

struct Lion {
  static constexpr int kSlots = 1;
  static constexpr unsigned kSquares = 0, kChanged = 0b1;
  explicit Lion(const Problem& p) : ahead(p.hyperparameters[0]), average(p.hyperparameters[1]) {}
  Floats operator()(Floats g, Floats* slots) const {
    Floats& m = slots[0];
    const Floats c = ahead(m, g);
    m = average(m, g);
    const Floats one = Broadcast(1.0f), zero{};
    const Floats sign = (c > 0.0f ? one : zero) - (c < 0.0f ? one : zero);
    return Unknown(c) == 0.0f ? sign : c;  // Infinity and NaN stay what they are.
  }
  Average ahead, average;
};

struct Sophia {
  static constexpr int kSlots = 2;
  static constexpr unsigned kSquares = 0, kChanged = 0b01;
  explicit Sophia(const Problem& p)
      : average(p.hyperparameters[0]),
        gamma(Constant(p.hyperparameters[1])),
        epsilon(Constant(p.hyperparameters[2])) {}
  Floats operator()(Floats g, Floats* slots) const {
    Floats& m = slots[0];
    m = average(m, g);
    const Floats h = gamma * slots[1];
    const Floats ratio = m / (h < epsilon ? epsilon : h);
    const Floats low = ratio < -1.0f ? Broadcast(-1.0f) : ratio;
    const Floats clipped = low > 1.0f ? Broadcast(1.0f) : low;
    // A ratio may overflow; what it is of may not be infinite.
    const Floats unknown = Unknown(m) + Unknown(slots[1]);
    return unknown == 0.0f ? clipped : unknown;
  }
  Average average;
  Floats gamma, epsilon;
};

// How weights follow a direction, with their decay.
struct Move {
  Move(const Problem& p, bool decays)
      : weight_decay(Constant(decays ? p.weight_decay : 0.0)),
        minus_rate(Constant(-p.rate)),
        is_proximal(decays && p.decay_is_proximal),
        // In float32, as it must be where the rate is one on a device.
        divisor(Broadcast(1.0f + static_cast<float>(p.rate) * static_cast<float>(p.weight_decay))) {
  }
  Floats operator()(Floats w, Floats u) const {
    const Floats change = (u + weight_decay * w) * minus_rate;
    if (is_proximal) return w + change / divisor;
    return w + change;
  }
  Floats weight_decay, minus_rate;
  bool is_proximal;
  Floats divisor;
};

}  // namespace KERNELS_ISA
}  // namespace kernels::optimizer_step

#endif  // KERNELS_OPTIMIZER_STEP_CPU_RULES_INL_H_
