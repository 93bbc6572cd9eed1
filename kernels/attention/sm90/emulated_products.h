// wgmma of the emulated thread block: what descriptors and registers mean, written from NVIDIA,
// "PTX ISA", section "Asynchronous warpgroup level matrix instructions", not from layout.h.
#ifndef KERNELS_ATTENTION_SM90_EMULATED_PRODUCTS_H_
#define KERNELS_ATTENTION_SM90_EMULATED_PRODUCTS_H_

#include <cstdint>
#include <cstring>

#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/emulated_memory.h"
#include "kernels/attention/sm90/layout.h"
#include "kernels/attention/sm90/numbers.h"

namespace kernels::attention::sm90 {

// What an instruction says.
struct Instruction {
  bool a_in_registers;
  uint64_t a;  // Descriptors.
  uint64_t b;
  bool accumulate;
  bool is_bfloat16;
  int columns;

  bool operator==(const Instruction& other) const {
    return a_in_registers == other.a_in_registers && a == other.a && b == other.b &&
           accumulate == other.accumulate && is_bfloat16 == other.is_bfloat16 &&
           columns == other.columns;
  }
};

// One product of a warpgroup, with the registers of all its threads.
struct Product {
  Instruction instruction;
  float* d[kWarpgroupThreads];
  const uint32_t* a[kWarpgroupThreads];
  int issued;
  bool done;
};

namespace internal {

inline float Number(const Product& product, uint32_t bits) {
  const auto low = static_cast<uint16_t>(bits);
  return product.instruction.is_bfloat16 ? Decode<BFloat16>(low) : Decode<Float16>(low);
}

inline float Read(const Product& product, SharedMemory& memory, uint32_t plain) {
  uint16_t bits;
  std::memcpy(&bits, memory.At(Swizzled(plain), sizeof(bits)), sizeof(bits));
  return Number(product, bits);
}

// 14 bits of a descriptor, in units of 16 bytes.
inline uint32_t Field(uint64_t descriptor, int bit) {
  return static_cast<uint32_t>(descriptor >> bit & 0x3fff) << 4;
}

inline float ElementOfA(const Product& product, SharedMemory& memory, int row, int k) {
  if (!product.instruction.a_in_registers) {
    const uint64_t a = product.instruction.a;
    Require(a >> 62 == 1, "a descriptor says 128-byte swizzle");
    return Read(product, memory, Field(a, 0) + row / 8 * Field(a, 32) + row % 8 * 128 + k * 2);
  }
  // Halves are neighbours in a row; registers are 8 rows apart, then 8 columns.
  const int thread = row / 16 * 32 + row % 8 * 4 + k % 8 / 2;
  const int i = row % 16 / 8 + k / 8 * 2;
  return Number(product, product.a[thread][i] >> (k % 2 * 16));
}

// b is k^T, its rows along the depth, where a is in shared memory too, and else v, transposed.
inline float ElementOfB(const Product& product, SharedMemory& memory, int column, int k) {
  const uint64_t b = product.instruction.b;
  Require(b >> 62 == 1, "a descriptor says 128-byte swizzle");
  const uint32_t leading = Field(b, 16);
  const uint32_t stride = Field(b, 32);
  const uint32_t offset =
      product.instruction.a_in_registers
          ? column / 64 * leading + k / 8 * stride + k % 8 * 128 + column % 64 * 2
          : column / 8 * stride + column % 8 * 128 + k * 2;
  return Read(product, memory, Field(b, 0) + offset);
}

}  // namespace internal

inline void Multiply(Product& product, SharedMemory& memory) {
  static float a[kMmaRows][kMmaDepth], b[256][kMmaDepth];
  const int columns = product.instruction.columns;
  for (int k = 0; k < kMmaDepth; ++k) {
    for (int row = 0; row < kMmaRows; ++row) {
      a[row][k] = internal::ElementOfA(product, memory, row, k);
    }
    for (int column = 0; column < columns; ++column) {
      b[column][k] = internal::ElementOfB(product, memory, column, k);
    }
  }
  for (int thread = 0; thread < kWarpgroupThreads; ++thread) {
    for (int i = 0; i < columns / 2; ++i) {
      const int row = 16 * (thread / 32) + thread % 32 / 4 + (i & 2 ? 8 : 0);
      const int column = i / 4 * 8 + thread % 4 * 2 + (i & 1);
      float sum = product.instruction.accumulate ? product.d[thread][i] : 0.0f;
      for (int k = 0; k < kMmaDepth; ++k) sum += a[row][k] * b[column][k];
      product.d[thread][i] = sum;
    }
  }
}

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_EMULATED_PRODUCTS_H_
