#include <cuda_runtime.h>

#include "infra/bazel/examples/saxpy.h"

namespace {

__global__ void Saxpy(int n, float a, const float* x, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] += a * x[i];
}

}  // namespace

int saxpy(int n, float a, const float* x, float* y) {
  const size_t bytes = static_cast<size_t>(n) * sizeof(float);
  float* device = nullptr;  // x, then y
  cudaError_t error = cudaMalloc(&device, 2 * bytes);
  if (error != cudaSuccess) return error;
  cudaMemcpy(device, x, bytes, cudaMemcpyHostToDevice);
  cudaMemcpy(device + n, y, bytes, cudaMemcpyHostToDevice);
  Saxpy<<<(n + 255) / 256, 256>>>(n, a, device, device + n);
  error = cudaMemcpy(y, device + n, bytes, cudaMemcpyDeviceToHost);
  cudaFree(device);
  return error;
}

const char* saxpy_error(int error) { return cudaGetErrorName(static_cast<cudaError_t>(error)); }
