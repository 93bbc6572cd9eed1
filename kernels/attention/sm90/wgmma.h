// The matrix instructions of Hopper in the shapes that attention uses: 64 rows, 16 deep, 64, 128 or
// 160 columns; two-byte elements, float sums in registers. Names and operands are those of "wgmma"
// in NVIDIA, "PTX ISA".
#ifndef KERNELS_ATTENTION_SM90_WGMMA_H_
#define KERNELS_ATTENTION_SM90_WGMMA_H_

#include <cstdint>
#include <type_traits>

#include "kernels/attention/sm90/config.h"

namespace kernels::attention::sm90 {

// The accumulator's operands: an inline instruction takes them one by one.
#define SM90_OUT_8(d, i)                                                                      \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define SM90_OUT_32(d, i) \
  SM90_OUT_8(d, i), SM90_OUT_8(d, i + 8), SM90_OUT_8(d, i + 16), SM90_OUT_8(d, i + 24)
#define SM90_OUT_64(d, i) SM90_OUT_32(d, i), SM90_OUT_32(d, i + 32)
#define SM90_OUT_80(d, i) SM90_OUT_64(d, i), SM90_OUT_8(d, i + 64), SM90_OUT_8(d, i + 72)

#define SM90_LIST_32                                                                 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
  "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SM90_LIST_64                                                                        \
  SM90_LIST_32                                                                              \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, " \
  "%49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SM90_LIST_80 \
  SM90_LIST_64       \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"

// d = a b + (accumulate ? d : 0), both operands in shared memory. After the accumulator, operand
// numbers are those of a's and b's descriptors and of `accumulate`.
#define SM90_MMA_SHARED(columns, registers, type, a_operand, b_operand, accumulate_operand) \
  asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" accumulate_operand    \
               ", 0;\nwgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type  \
               " {" SM90_LIST_##registers "}, %" a_operand ", %" b_operand                  \
                                          ", accumulate, 1, 1, 0, 0;\n}\n"                  \
               : SM90_OUT_##registers(d, 0)                                                 \
               : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))

// d += a b, a in registers, b in shared memory with its rows along the depth.
#define SM90_MMA_REGISTERS(columns, registers, type, a0, a1, a2, a3, b_operand)                  \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type             \
               " {" SM90_LIST_##registers "}, {%" a0 ", %" a1 ", %" a2 ", %" a3 "}, %" b_operand \
                                          ", 1, 1, 1, 1;\n"                                      \
               : SM90_OUT_##registers(d, 0)                                                      \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

template <class Type, int kColumns>
SM90_INLINE void MmaShared(float (&d)[kColumns / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(kColumns == 64 || kColumns == 128 || kColumns == 160);
  constexpr bool kIsBFloat16 = std::is_same_v<Type, BFloat16>;
  if constexpr (kColumns == 64 && kIsBFloat16) {
    SM90_MMA_SHARED(64, 32, "bf16", "32", "33", "34");
  } else if constexpr (kColumns == 64) {
    SM90_MMA_SHARED(64, 32, "f16", "32", "33", "34");
  } else if constexpr (kColumns == 128 && kIsBFloat16) {
    SM90_MMA_SHARED(128, 64, "bf16", "64", "65", "66");
  } else if constexpr (kColumns == 128) {
    SM90_MMA_SHARED(128, 64, "f16", "64", "65", "66");
  } else if constexpr (kIsBFloat16) {
    SM90_MMA_SHARED(160, 80, "bf16", "80", "81", "82");
  } else {
    SM90_MMA_SHARED(160, 80, "f16", "80", "81", "82");
  }
}

template <class Type, int kColumns>
SM90_INLINE void MmaRegisters(float (&d)[kColumns / 2], const uint32_t* a, uint64_t b) {
  static_assert(kColumns == 64 || kColumns == 128);
  constexpr bool kIsBFloat16 = std::is_same_v<Type, BFloat16>;
  if constexpr (kColumns == 64 && kIsBFloat16) {
    SM90_MMA_REGISTERS(64, 32, "bf16", "32", "33", "34", "35", "36");
  } else if constexpr (kColumns == 64) {
    SM90_MMA_REGISTERS(64, 32, "f16", "32", "33", "34", "35", "36");
  } else if constexpr (kIsBFloat16) {
    SM90_MMA_REGISTERS(128, 64, "bf16", "64", "65", "66", "67", "68");
  } else {
    SM90_MMA_REGISTERS(128, 64, "f16", "64", "65", "66", "67", "68");
  }
}

#undef SM90_OUT_8
#undef SM90_OUT_32
#undef SM90_OUT_64
#undef SM90_OUT_80
#undef SM90_LIST_32
#undef SM90_LIST_64
#undef SM90_LIST_80
#undef SM90_MMA_SHARED
#undef SM90_MMA_REGISTERS

}  // namespace kernels::attention::sm90

#endif  // KERNELS_ATTENTION_SM90_WGMMA_H_
