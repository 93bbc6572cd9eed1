#include "kernels/native/cuda_tensor_map.h"

#include <array>
#include <cstdint>

#include "kernels/native/cuda_driver.h"

namespace kernels::cuda {
namespace {

constexpr uint64_t kElementBytes = 2;

// Values of CUtensorMapDataType, CUtensorMapInterleave, CUtensorMapSwizzle,
// CUtensorMapL2promotion and CUtensorMapFloatOOBfill.
constexpr int kDataTypeFloat16 = 6;
constexpr int kDataTypeBFloat16 = 9;
constexpr int kNoInterleave = 0;
constexpr int kSwizzle128Bytes = 3;
constexpr int kL2Promotion256Bytes = 3;
constexpr int kFillZero = 0;

constexpr uintptr_t kAlignment = 16;

}  // namespace

void EncodeTensorMap(const TensorMapSpec& spec, void* map) {
  if (reinterpret_cast<uintptr_t>(spec.address) % kAlignment != 0) {
    throw Error("an array that bulk copies read or write must be aligned to 16 bytes");
  }
  // Of all dimensions but the first.
  std::array<uint64_t, 3> strides;
  uint64_t stride = kElementBytes;
  for (size_t i = 0; i < strides.size(); ++i) strides[i] = stride *= spec.sizes[i];
  constexpr std::array<uint32_t, 4> kEveryElement = {1, 1, 1, 1};
  Check(GetDriver().tensor_map_encode_tiled(
            map, spec.type == ElementType::kFloat16 ? kDataTypeFloat16 : kDataTypeBFloat16,
            static_cast<uint32_t>(spec.sizes.size()), spec.address, spec.sizes.data(),
            strides.data(), spec.box.data(), kEveryElement.data(), kNoInterleave, kSwizzle128Bytes,
            kL2Promotion256Bytes, kFillZero),
        "cuTensorMapEncodeTiled");
}

}  // namespace kernels::cuda
