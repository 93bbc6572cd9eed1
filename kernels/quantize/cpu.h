// Blockwise 8-bit quantization on the CPU: a block is read once, and all that becomes of it is
// written while it is in the first-level cache.
//
// Results are those of reference.py, bit for bit, whatever the instruction set, the number of
// threads, the alignment of the arrays, and the caller's rounding mode and treatment of subnormal
// numbers.
#ifndef KERNELS_QUANTIZE_CPU_H_
#define KERNELS_QUANTIZE_CPU_H_

#include "kernels/quantize/problem.h"

namespace kernels::quantize {

// All throw std::invalid_argument for an ill-formed problem. ReduceQuantizeCpu has no values but
// float32.
void QuantizeCpu(DType dtype, const Problem& problem, const QuantizeTensors& tensors);
void DequantizeCpu(DType dtype, const Problem& problem, const DequantizeTensors& tensors);
void ReduceCpu(DType dtype, const Problem& problem, const ReduceTensors& tensors);
void ReduceQuantizeCpu(const Problem& problem, const ReduceQuantizeTensors& tensors);

}  // namespace kernels::quantize

#endif  // KERNELS_QUANTIZE_CPU_H_
