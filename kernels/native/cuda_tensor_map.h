// Tensor maps: what the bulk copies (TMA) of Hopper and later know of an array in memory.
#ifndef KERNELS_NATIVE_CUDA_TENSOR_MAP_H_
#define KERNELS_NATIVE_CUDA_TENSOR_MAP_H_

#include <array>
#include <cstdint>

namespace kernels::cuda {

enum class ElementType { kFloat16, kBFloat16 };

// An array of elements of two bytes in four dimensions, innermost first, contiguous; copies move
// boxes of it. A row of a box is at most 128 bytes, whose 16-byte units are swizzled in shared
// memory. What lies outside the array is read as 0 and not written.
struct TensorMapSpec {
  ElementType type;
  void* address;  // Aligned to 16 bytes.
  std::array<uint64_t, 4> sizes;
  std::array<uint32_t, 4> box;
};

// Fills the 128 bytes at `map`, aligned to 64 bytes; a kernel takes them by value. Throws Error.
void EncodeTensorMap(const TensorMapSpec& spec, void* map);

}  // namespace kernels::cuda

#endif  // KERNELS_NATIVE_CUDA_TENSOR_MAP_H_
