// Where Hopper's matrix instructions keep their elements: registers of a warpgroup and swizzled
// shared memory. Compiles for the host too, where layout_test.cc checks it.
//
// A matrix in shared memory is a row of panels: each has all rows and 64 columns of two bytes, so a
// row of a panel is 128 bytes, the widest swizzle. Panels start at multiples of 1024 bytes.
//
// Reference: NVIDIA, "PTX ISA", asynchronous warpgroup level matrix instructions.
#ifndef KERNELS_ATTENTION_SM90_LAYOUT_H_
#define KERNELS_ATTENTION_SM90_LAYOUT_H_

#include <cstdint>

#ifdef __CUDACC__
#define SM90_INLINE __device__ __forceinline__
#define SM90_UNROLL _Pragma("unroll")
#else
#define SM90_INLINE inline
#define SM90_UNROLL
#endif

namespace kernels::attention::sm90 {

constexpr int kWarpThreads = 32;
constexpr int kWarpgroupThreads = 128;
constexpr int kWarpgroupWarps = kWarpgroupThreads / kWarpThreads;

// One wgmma multiplies 64 rows by 16 columns; its second operand has up to 256 columns.
constexpr int kMmaRows = 64;
constexpr int kMmaDepth = 16;

constexpr int kElementBytes = 2;
constexpr int kPanelColumns = 64;
constexpr int kPanelRowBytes = kPanelColumns * kElementBytes;
// The swizzle repeats after eight rows.
constexpr int kSwizzleRows = 8;
constexpr int kSwizzleBytes = kSwizzleRows * kPanelRowBytes;

struct Element {
  int row;
  int column;
};

// What register `i` of the accumulator of a warpgroup's thread holds.
SM90_INLINE constexpr Element AccumulatorElement(int thread, int i) {
  return {16 * (thread / kWarpThreads) + thread % kWarpThreads / 4 + 8 * (i / 2 % 2),
          8 * (i / 4) + 2 * (thread % 4) + i % 2};
}

// The rows of a thread differ by eight: registers of the second have this bit set.
SM90_INLINE constexpr int RowOf(int i) { return i / 2 % 2; }

// The column of register `i` less that of register 0: the same in all threads.
SM90_INLINE constexpr int ColumnOf(int i) { return 8 * (i / 4) + i % 2; }

// What half `half` of register `i` (of four) of the first operand holds, if it is in registers.
// Register i of step s (16 columns each) is accumulator registers 8 s + 2 i and the one after: the
// probabilities need not move between threads to become an operand.
SM90_INLINE constexpr Element OperandElement(int thread, int i, int half) {
  return {16 * (thread / kWarpThreads) + thread % kWarpThreads / 4 + 8 * (i % 2),
          8 * (i / 2) + 2 * (thread % 4) + half};
}

// The address of what stands at `address` without swizzle: 16-byte units change places within a row
// of 128 bytes, by the row's number modulo eight.
SM90_INLINE constexpr uint32_t Swizzle(uint32_t address) { return address ^ (address >> 3 & 0x70); }

SM90_INLINE constexpr int PanelBytes(int rows) { return rows * kPanelRowBytes; }

// Offset of an element in a matrix of `rows` rows.
SM90_INLINE constexpr uint32_t SharedOffset(int rows, int row, int column) {
  return static_cast<uint32_t>(column / kPanelColumns * PanelBytes(rows)) +
         Swizzle(
             static_cast<uint32_t>(row * kPanelRowBytes + column % kPanelColumns * kElementBytes));
}

// A matrix descriptor of wgmma, all of it in units of 16 bytes: 14 bits each of start, leading
// dimension offset and stride dimension offset; 1 in the top two bits is the 128-byte swizzle.
SM90_INLINE constexpr uint64_t Descriptor(uint32_t address, uint32_t leading_bytes,
                                          uint32_t stride_bytes) {
  return (address & 0x3ffff) >> 4 | static_cast<uint64_t>(leading_bytes >> 4) << 16 |
         static_cast<uint64_t>(stride_bytes >> 4) << 32 | uint64_t{1} << 62;
}

// Of an operand whose rows run along the depth of the product: q, and k as k^T. The leading
// dimension offset has no meaning there; 16 is customary.
SM90_INLINE constexpr uint64_t RowsDescriptor(uint32_t address) {
  return Descriptor(address, 16, kSwizzleBytes);
}

// What a depth of 16 `step`s further adds to such a descriptor.
SM90_INLINE constexpr uint64_t RowsStep(int rows, int step) {
  const int steps_per_panel = kPanelColumns / kMmaDepth;
  return static_cast<uint64_t>(step / steps_per_panel * PanelBytes(rows) +
                               step % steps_per_panel * kMmaDepth * kElementBytes) >>
         4;
}

// Of an operand whose rows count the depth of the product: v. Panels follow each other in the
// leading dimension, groups of eight rows in the other.
SM90_INLINE constexpr uint64_t ColumnsDescriptor(uint32_t address, int rows) {
  return Descriptor(address, static_cast<uint32_t>(PanelBytes(rows)), kSwizzleBytes);
}

SM90_INLINE constexpr uint64_t ColumnsStep(int step) {
  return static_cast<uint64_t>(step * kMmaDepth * kPanelRowBytes) >> 4;
}

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_LAYOUT_H_
