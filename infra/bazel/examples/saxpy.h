#ifndef INFRA_BAZEL_EXAMPLES_SAXPY_H_
#define INFRA_BAZEL_EXAMPLES_SAXPY_H_

// y[i] += a * x[i] for 0 <= i < n, on the current CUDA device; x and y lie in host memory.
// Returns a cudaError_t: 0 for success.
extern "C" int saxpy(int n, float a, const float* x, float* y);

// What a value returned by saxpy means.
extern "C" const char* saxpy_error(int error);

#endif  // INFRA_BAZEL_EXAMPLES_SAXPY_H_
