// The tasks and the table of them, of one instruction set (simd-inl.h).
#ifndef KERNELS_OPTIMIZER_STEP_CPU_TASKS_INL_H_
#define KERNELS_OPTIMIZER_STEP_CPU_TASKS_INL_H_

#include "kernels/optimizer_step/cpu_rules-inl.h"

namespace kernels::optimizer_step {
namespace KERNELS_ISA {

using ::kernels::KERNELS_ISA::kVectorBytes;
using quantize::Format;
using quantize::Rounding;
using quantize::KERNELS_ISA::BFloat16;
using quantize::KERNELS_ISA::DecodeBlock;
using quantize::KERNELS_ISA::Float16;
using quantize::KERNELS_ISA::FloatOfBits;
using quantize::KERNELS_ISA::LoadValues;
using quantize::KERNELS_ISA::NoiseKey;
using quantize::KERNELS_ISA::Prefetch;
using quantize::KERNELS_ISA::QuantizeBlock;
using quantize::KERNELS_ISA::Stage;
using quantize::KERNELS_ISA::StoreValues;

constexpr Format kFormat = Format::kFloat8E4M3;

// The smallest code but 0, which no second moment may fall to while its block has a larger one:
// weights would be divided by epsilon alone. As `LEAST` in contract.py.
constexpr float kLeast = 0x1p-9f;

// Updates `count` weights, a multiple of kWidth. kStreams says that slots come from memory. Numbers
// are copied, or the compiler would read them anew after each store.
template <bool kStreams, typename Rule, typename T>
inline void Update(Rule rule, Move move, T* param, const T* grad,
                   const std::array<float*, Rule::kSlots>& slots, int64_t count) {
#pragma GCC unroll 2
  for (int64_t i = 0; i < count; i += kWidth) {
    Prefetch<0>(grad + i);
    Prefetch<1>(param + i);
    Floats state[Rule::kSlots];
    for (int k = 0; k < Rule::kSlots; ++k) {
      if (kStreams) Prefetch<1>(slots[k] + i);
      state[k] = LoadValues(slots[k] + i);
    }
    const Floats u = rule(LoadValues(grad + i), state);
    StoreValues(move(LoadValues(param + i), u), param + i);
    for (int k = 0; k < Rule::kSlots; ++k) {
      if (Rule::kChanged >> k & 1) StoreValues(state[k], slots[k] + i);
    }
  }
}

// The same of any count, up to kMost.
template <int64_t kMost, typename Rule, typename T>
inline void UpdatePadded(const Rule& rule, const Move& move, T* param, const T* grad,
                         const std::array<float*, Rule::kSlots>& slots, int64_t count) {
  T params[kMost]{}, grads[kMost]{};
  std::memcpy(params, param, count * sizeof(T));
  std::memcpy(grads, grad, count * sizeof(T));
  Update<false>(rule, move, params, grads, slots, kMost);
  std::memcpy(param, params, count * sizeof(T));
}

template <typename Rule, typename T>
void UpdateFloats(const Rule& rule, const Move& move, const Tensor& t, int64_t begin, int64_t end) {
  const auto at = [&](int64_t i) {
    std::array<float*, Rule::kSlots> slots;
    for (int k = 0; k < Rule::kSlots; ++k) slots[k] = static_cast<float*>(t.slots[k]) + i;
    return slots;
  };
  T* const param = static_cast<T*>(t.param);
  const T* const grad = static_cast<const T*>(t.grad);
  const int64_t whole = (end - begin) / kWidth * kWidth;
  Update<true>(rule, move, param + begin, grad + begin, at(begin), whole);
  const int64_t rest = end - begin - whole;
  if (rest == 0) return;
  float padded[Rule::kSlots][kWidth]{};
  std::array<float*, Rule::kSlots> slots = at(end - rest), copies;
  for (int k = 0; k < Rule::kSlots; ++k) {
    copies[k] = padded[k];
    std::memcpy(copies[k], slots[k], rest * sizeof(float));
  }
  UpdatePadded<kWidth>(rule, move, param + end - rest, grad + end - rest, copies, rest);
  for (int k = 0; k < Rule::kSlots; ++k) std::memcpy(slots[k], copies[k], rest * sizeof(float));
}

// Slots of bytes, a block at a time: to float32 in the first-level cache and back.
template <typename Rule, typename T>
void UpdateBytes(const Rule& rule, const Move& move, const Problem& p, const Tensor& t,
                 int64_t begin, int64_t end) {
  alignas(kVectorBytes) float values[Rule::kSlots][kBlockSize];
  std::array<float*, Rule::kSlots> slots;
  for (int k = 0; k < Rule::kSlots; ++k) slots[k] = values[k];
  const int64_t num_codes = CeilDiv(t.size, kBlockSize) * kBlockSize;
  for (int64_t first = begin; first < end; first += kBlockSize) {
    const int64_t count = end - first < kBlockSize ? end - first : kBlockSize;
    const auto codes_of = [&](int k) { return static_cast<uint8_t*>(t.slots[k]) + first; };
    const auto scale_of = [&](int k) {
      return static_cast<uint8_t*>(t.slots[k]) + num_codes + first / kBlockSize * sizeof(float);
    };
    for (int k = 0; k < Rule::kSlots; ++k) {
      float scale;
      std::memcpy(&scale, scale_of(k), sizeof(scale));
      DecodeBlock<kFormat>(codes_of(k), kBlockSize, scale, values[k]);
      if (Rule::kSquares >> k & 1) {
        const Floats least = Broadcast(scale * kLeast);
        for (int64_t i = 0; i < count; i += kWidth) {
          const Floats root = LoadValues(values[k] + i);
          const Floats floored = root < least ? least : root;
          StoreValues(floored * floored, values[k] + i);
        }
      }
    }
    T* const param = static_cast<T*>(t.param) + first;
    const T* const grad = static_cast<const T*>(t.grad) + first;
    if (count == kBlockSize) {
      Update<false>(rule, move, param, grad, slots, kBlockSize);
    } else {
      UpdatePadded<kBlockSize>(rule, move, param, grad, slots, count);
    }
    for (int k = 0; k < Rule::kSlots; ++k) {
      if (!(Rule::kChanged >> k & 1)) continue;
      if (Rule::kSquares >> k & 1) {
        for (int64_t i = 0; i < count; i += kWidth) {
          StoreValues(Sqrt(LoadValues(values[k] + i)), values[k] + i);
        }
      }
      // What fills the last block counts as zeros.
      std::memset(values[k] + count, 0, (kBlockSize - count) * sizeof(float));
      const NoiseKey noise{Seed(p.step, t.index, k), static_cast<uint64_t>(first)};
      const float scale = QuantizeBlock<kFormat, Rounding::kStochastic, false>(
          Stage(values[k], kBlockSize), kBlockSize, noise, nullptr, codes_of(k), nullptr);
      std::memcpy(scale_of(k), &scale, sizeof(scale));
    }
  }
}

template <typename Rule, typename T>
void RunTask(const Problem& p, const Tensor& t, int64_t begin, int64_t end) {
  const Rule rule(p);
  const Move move(p, t.decays);
  if (t.has_bytes) {
    UpdateBytes<Rule, T>(rule, move, p, t, begin, end);
  } else {
    UpdateFloats<Rule, T>(rule, move, t, begin, end);
  }
}

template <typename Rule>
Task TaskOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return RunTask<Rule, Float16>;
    case DType::kBFloat16:
      return RunTask<Rule, BFloat16>;
    default:
      return RunTask<Rule, float>;
  }
}

Task TaskOf(Rule rule, DType dtype) {
  switch (rule) {
    case Rule::kAdaBelief:
      return TaskOf<AdaBelief>(dtype);
    case Rule::kAdamW:
      return TaskOf<AdamW>(dtype);
    case Rule::kAdan:
      return TaskOf<Adan>(dtype);
    case Rule::kLion:
      return TaskOf<Lion>(dtype);
    default:
      return TaskOf<Sophia>(dtype);
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels::optimizer_step

#endif  // KERNELS_OPTIMIZER_STEP_CPU_TASKS_INL_H_
