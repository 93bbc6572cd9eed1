// Blockwise 8-bit quantization on CUDA: the kernels of triton_kernels.py, launched from cubins.
#ifndef KERNELS_QUANTIZE_CUDA_H_
#define KERNELS_QUANTIZE_CUDA_H_

#include "kernels/native/cuda_driver.h"
#include "kernels/quantize/problem.h"

namespace kernels::quantize {

// Where a launch goes: the ordinal of a device and a stream of its primary context.
struct Queue {
  int device;
  cuda::Stream stream;
};

// All enqueue one kernel and return. Arrays must start at multiples of 16 bytes. They throw
// std::invalid_argument for what CheckProblem refuses, and cuda::Error.
void QuantizeCuda(DType dtype, const Problem& problem, const QuantizeTensors& tensors, Queue queue);
void DequantizeCuda(DType dtype, const Problem& problem, const DequantizeTensors& tensors,
                    Queue queue);
void ReduceCuda(DType dtype, const Problem& problem, const ReduceTensors& tensors, Queue queue);
void ReduceQuantizeCuda(const Problem& problem, const ReduceQuantizeTensors& tensors, Queue queue);

}  // namespace kernels::quantize

#endif  // KERNELS_QUANTIZE_CUDA_H_
