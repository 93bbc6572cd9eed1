// The border between the plan (cpu.cc, compiled once) and the tasks (cpu_*-inl.h, compiled once per
// instruction set).
#ifndef KERNELS_QUANTIZE_CPU_TASKS_H_
#define KERNELS_QUANTIZE_CPU_TASKS_H_

#include <cstdint>

#include "kernels/quantize/problem.h"

namespace kernels::quantize {

// Part of a chunk: its values [begin, end). Both are multiples of the block size, and the end may
// lie beyond the values of the chunk, within its last block.
struct Span {
  int64_t chunk;
  int64_t begin;
  int64_t end;
};

// Code for one instruction set and one dtype.
struct TaskSet {
  void (*quantize)(const Problem&, const QuantizeTensors&, Span);
  void (*dequantize)(const Problem&, const DequantizeTensors&, Span);
  void (*reduce)(const Problem&, const ReduceTensors&, Span);
  // The same for each dtype.
  void (*reduce_quantize)(const Problem&, const ReduceQuantizeTensors&, Span);
};

namespace generic {
const TaskSet& Tasks(DType dtype);
}
namespace avx2 {
const TaskSet& Tasks(DType dtype);
}
namespace avx512 {
const TaskSet& Tasks(DType dtype);
}

}  // namespace kernels::quantize

#endif  // KERNELS_QUANTIZE_CPU_TASKS_H_
