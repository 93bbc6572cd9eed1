// Shared memory of the emulated thread block, and copies of boxes between it and arrays.
#ifndef KERNELS_ATTENTION_SM90_EMULATED_MEMORY_H_
#define KERNELS_ATTENTION_SM90_EMULATED_MEMORY_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/layout.h"

namespace kernels::attention::sm90 {

// Ends the program unless `ok`.
inline void Require(bool ok, const char* rule) {
  if (ok) return;
  std::fprintf(stderr, "emulation: violated: %s\n", rule);
  std::exit(1);
}

// What a TensorMap points to: an array of two-byte elements and the rows of a box of 64 columns.
struct HostArray {
  uint16_t* data;
  int32_t columns;
  int32_t heads;
  int32_t rows;
  int32_t batch;
  int32_t box_rows;

  // Null outside the array.
  uint16_t* At(int32_t column, int32_t head, int32_t row, int32_t b) const {
    if (column < 0 || column >= columns || row < 0 || row >= rows) return nullptr;
    Require(head >= 0 && head < heads && b >= 0 && b < batch, "a box is of a head that exists");
    return data + ((static_cast<int64_t>(b) * rows + row) * heads + head) * columns + column;
  }
};

inline TensorMap MapOf(const HostArray& array) {
  TensorMap map{};
  const HostArray* address = &array;
  std::memcpy(map.opaque, &address, sizeof(address));
  return map;
}

inline const HostArray& ArrayOf(const TensorMap& map) {
  const HostArray* address;
  std::memcpy(&address, map.opaque, sizeof(address));
  return *address;
}

// Where the 128-byte swizzle puts what would be at `plain`: bits 4 to 6 of the address are combined
// with bits 7 to 9.
inline uint32_t Swizzled(uint32_t plain) { return plain ^ ((plain & 0x380) >> 3); }

class SharedMemory {
 public:
  // Not 0, so that an address is not taken for an offset; as on the hardware.
  static constexpr uint32_t kBase = 1024;

  // Holds what is not a number, until written.
  explicit SharedMemory(int32_t bytes) : bytes_(bytes, 0xff) {}

  uint8_t* At(uint32_t address, uint32_t bytes) {
    Require(address >= kBase && address + bytes <= kBase + bytes_.size(),
            "an address is in shared memory");
    return bytes_.data() + (address - kBase);
  }

  // Between memory from `address` on and the box at (column, head, row, batch). What lies outside
  // the array is read as 0 and not written.
  void CopyBox(const HostArray& array, uint32_t address, int32_t column, int32_t head, int32_t row,
               int32_t batch, bool load) {
    Require(address % kSwizzleBytes == 0, "a swizzled box starts at a multiple of 1024");
    for (int32_t r = 0; r < array.box_rows; ++r) {
      for (int32_t c = 0; c < kPanelColumns; ++c) {
        uint8_t* shared =
            At(Swizzled(address + r * kPanelRowBytes + c * kElementBytes), kElementBytes);
        uint16_t* global = array.At(column + c, head, row + r, batch);
        const uint16_t zero = 0;
        if (load) std::memcpy(shared, global != nullptr ? global : &zero, kElementBytes);
        if (!load && global != nullptr) std::memcpy(global, shared, kElementBytes);
      }
    }
  }

 private:
  std::vector<uint8_t> bytes_;
};

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_EMULATED_MEMORY_H_
