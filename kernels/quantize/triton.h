// Blockwise 8-bit quantization on CUDA: the kernels of triton_kernels.py, launched from cubins.
#ifndef KERNELS_QUANTIZE_TRITON_H_
#define KERNELS_QUANTIZE_TRITON_H_

#include "kernels/native/cuda_driver.h"
#include "kernels/quantize/problem.h"

namespace kernels::quantize {

// All enqueue one kernel and return. Arrays must start at multiples of 16 bytes. They throw
// std::invalid_argument for what CheckProblem refuses, and cuda::Error.
void QuantizeTriton(DType dtype, const Problem& problem, const QuantizeTensors& tensors,
                    cuda::Queue queue);
void DequantizeTriton(DType dtype, const Problem& problem, const DequantizeTensors& tensors,
                      cuda::Queue queue);
void ReduceTriton(DType dtype, const Problem& problem, const ReduceTensors& tensors,
                  cuda::Queue queue);
void ReduceQuantizeTriton(const Problem& problem, const ReduceQuantizeTensors& tensors,
                          cuda::Queue queue);

}  // namespace kernels::quantize

#endif  // KERNELS_QUANTIZE_TRITON_H_
