// The tasks and the table of them, of one instruction set (simd-inl.h).
#ifndef KERNELS_QUANTIZE_CPU_TASKS_INL_H_
#define KERNELS_QUANTIZE_CPU_TASKS_INL_H_

#include "kernels/quantize/cpu_blocks-inl.h"

namespace kernels::quantize {
namespace KERNELS_ISA {

// Calls `body` with constants: the format, and for quantizing the rounding and whether there is a
// residual.
template <typename Body>
void WithFormat(const Problem& p, const Body& body) {
  switch (p.format) {
    case Format::kInt8:
      return body(std::integral_constant<Format, Format::kInt8>{});
    case Format::kFloat8E4M3:
      return body(std::integral_constant<Format, Format::kFloat8E4M3>{});
    case Format::kFloat8E5M2:
      return body(std::integral_constant<Format, Format::kFloat8E5M2>{});
  }
}
template <typename Body>
void WithQuantizer(const Problem& p, bool has_residual, const Body& body) {
  WithFormat(p, [&](auto format) {
    const auto with_rounding = [&](auto rounding) {
      if (has_residual) {
        body(format, rounding, std::true_type{});
      } else {
        body(format, rounding, std::false_type{});
      }
    };
    if (p.rounding == Rounding::kNearest) {
      with_rounding(std::integral_constant<Rounding, Rounding::kNearest>{});
    } else {
      with_rounding(std::integral_constant<Rounding, Rounding::kStochastic>{});
    }
  });
}

// What there is of the block of a chunk that begins with its value `begin`.
struct Block {
  Block(const Problem& p, int64_t chunk, int64_t begin) : index(chunk * p.chunk_size + begin) {
    const int64_t left =
        p.chunk_size - begin < p.size - index ? p.chunk_size - begin : p.size - index;
    count = left < 0 ? 0 : (left < p.block_size ? left : p.block_size);
  }

  int64_t index;  // Of the first value in the array.
  int64_t count;
};

// One row of a payload.
struct Row {
  Row(const Problem& p, void* payload, int64_t chunk)
      : codes(static_cast<uint8_t*>(payload) + chunk * PayloadBytes(p)),
        scales(codes + CodesPerChunk(p)),
        end(codes + PayloadBytes(p)) {}

  float Scale(int64_t block) const {
    float scale;
    std::memcpy(&scale, scales + block * sizeof(float), sizeof(float));
    return scale;
  }
  void SetScale(int64_t block, float scale) const {
    std::memcpy(scales + block * sizeof(float), &scale, sizeof(float));
  }
  // The bytes after the scales, once for each row.
  void Finish(const Problem& p, Span span) const {
    if (span.end != CodesPerChunk(p)) return;
    uint8_t* rest = scales + BlocksPerChunk(p) * sizeof(float);
    std::memset(rest, 0, end - rest);
  }

  uint8_t* codes;
  uint8_t* scales;
  uint8_t* end;
};

// The old and the new residual of a block, null where there is none.
struct Residual {
  Residual(void* in_array, void* out_array, int64_t index)
      : in(in_array == nullptr ? nullptr : static_cast<const float*>(in_array) + index),
        out(out_array == nullptr ? nullptr : static_cast<float*>(out_array) + index) {}

  const float* in;
  float* out;
};

inline NoiseKey NoiseOf(const void* noise, int64_t index) {
  if (noise == nullptr) return {};
  uint32_t words[3];
  std::memcpy(words, noise, sizeof(words));
  return {words[0], (uint64_t{words[2]} << 32 | words[1]) + index};
}

// Copies what there is of a block and fills it with zeros.
template <typename T>
inline void Pad(const T* in, int64_t count, int64_t block_size, T* out) {
  std::memcpy(out, in, count * sizeof(T));
  std::memset(out + count, 0, (block_size - count) * sizeof(T));
}

// Codes a whole block and returns the scale.
template <Format kFormat, Rounding kRounding, bool kHasResidual, typename In>
float QuantizeWhole(const In* x, int64_t block_size, NoiseKey noise, Residual residual,
                    uint8_t* codes) {
  if constexpr (kHasResidual) {
    alignas(kVectorBytes) float v[kMaxBlockSize];
    return QuantizeBlock<kFormat, kRounding, true>(StageSum(x, residual.in, block_size, v),
                                                   block_size, noise, residual.in, codes,
                                                   residual.out);
  } else {
    return QuantizeBlock<kFormat, kRounding, false>(Stage(x, block_size), block_size, noise,
                                                    nullptr, codes, nullptr);
  }
}

// The same for `count` values, padded with zeros to a whole block.
template <Format kFormat, Rounding kRounding, bool kHasResidual, typename In>
float QuantizeValues(const In* x, int64_t count, int64_t block_size, NoiseKey noise,
                     Residual residual, uint8_t* codes) {
  if (count == block_size) {
    return QuantizeWhole<kFormat, kRounding, kHasResidual>(x, block_size, noise, residual, codes);
  }
  In padded[kMaxBlockSize];
  float in[kMaxBlockSize], out[kMaxBlockSize];
  Pad(x, count, block_size, padded);
  if constexpr (kHasResidual) Pad(residual.in, count, block_size, in);
  const float scale = QuantizeWhole<kFormat, kRounding, kHasResidual>(padded, block_size, noise,
                                                                      Residual(in, out, 0), codes);
  if constexpr (kHasResidual) std::memcpy(residual.out, out, count * sizeof(float));
  return scale;
}

template <typename In>
void QuantizeTask(const Problem& p, const QuantizeTensors& t, Span span) {
  WithQuantizer(p, t.residual_in != nullptr, [&](auto format, auto rounding, auto has_residual) {
    const Row row(p, t.payload, span.chunk);
    for (int64_t begin = span.begin; begin < span.end; begin += p.block_size) {
      const Block block(p, span.chunk, begin);
      float scale = 0.0f;
      if (block.count == 0) {
        std::memset(row.codes + begin, 0, p.block_size);
      } else {
        scale = QuantizeValues<format(), rounding(), has_residual()>(
            static_cast<const In*>(t.x) + block.index, block.count, p.block_size,
            NoiseOf(t.noise, block.index), Residual(t.residual_in, t.residual_out, block.index),
            row.codes + begin);
      }
      row.SetScale(begin / p.block_size, scale);
    }
    row.Finish(p, span);
  });
}

template <typename Out>
void DequantizeTask(const Problem& p, const DequantizeTensors& t, Span span) {
  WithFormat(p, [&](auto format) {
    const Row row(p, t.payload, span.chunk);
    for (int64_t begin = span.begin; begin < span.end; begin += p.block_size) {
      const Block block(p, span.chunk, begin);
      Out* out = static_cast<Out*>(t.out) + block.index;
      const float scale = row.Scale(begin / p.block_size);
      if (block.count == p.block_size) {
        DecodeBlock<format()>(row.codes + begin, p.block_size, scale, out);
      } else if (block.count > 0) {
        Out whole[kMaxBlockSize];
        DecodeBlock<format()>(row.codes + begin, p.block_size, scale, whole);
        std::memcpy(out, whole, block.count * sizeof(Out));
      }
    }
  });
}

inline Terms TermsOf(const Problem& p, void* payloads, int64_t begin) {
  const Row first(p, payloads, 0);
  return {first.codes + begin, first.scales + begin / p.block_size * sizeof(float), PayloadBytes(p),
          p.num_chunks};
}

template <typename Out>
void ReduceTask(const Problem& p, const ReduceTensors& t, Span span) {
  WithFormat(p, [&](auto format) {
    for (int64_t begin = span.begin; begin < span.end; begin += p.block_size) {
      const Block block(p, 0, begin);
      const Terms terms = TermsOf(p, t.payloads, begin);
      Out* out = static_cast<Out*>(t.out) + begin;
      if (block.count == p.block_size) {
        SumBlocks<format()>(terms, p.block_size, p.multiplier, out);
      } else {
        Out whole[kMaxBlockSize];
        SumBlocks<format()>(terms, p.block_size, p.multiplier, whole);
        std::memcpy(out, whole, block.count * sizeof(Out));
      }
    }
  });
}

inline void ReduceQuantizeTask(const Problem& p, const ReduceQuantizeTensors& t, Span span) {
  WithQuantizer(p, t.residual_in != nullptr, [&](auto format, auto rounding, auto has_residual) {
    alignas(kVectorBytes) float sum[kMaxBlockSize];
    const Row row(p, t.payload, 0);
    for (int64_t begin = span.begin; begin < span.end; begin += p.block_size) {
      const Block block(p, 0, begin);
      SumBlocks<format()>(TermsOf(p, t.payloads, begin), p.block_size, p.multiplier, sum);
      const float scale = QuantizeValues<format(), rounding(), has_residual()>(
          sum, block.count, p.block_size, NoiseOf(t.noise, begin),
          Residual(t.residual_in, t.residual_out, begin), row.codes + begin);
      row.SetScale(begin / p.block_size, scale);
    }
    row.Finish(p, span);
  });
}

template <typename In>
constexpr TaskSet kTasks = {QuantizeTask<In>, DequantizeTask<In>, ReduceTask<In>,
                            ReduceQuantizeTask};

const TaskSet& Tasks(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return kTasks<Float16>;
    case DType::kBFloat16:
      return kTasks<BFloat16>;
    default:
      return kTasks<float>;
  }
}

}  // namespace KERNELS_ISA
}  // namespace kernels::quantize

#endif  // KERNELS_QUANTIZE_CPU_TASKS_INL_H_
