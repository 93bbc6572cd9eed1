// Which vector and matrix instructions this process uses.
#ifndef KERNELS_NATIVE_CPU_ISA_H_
#define KERNELS_NATIVE_CPU_ISA_H_

namespace kernels {

enum class CpuIsa { kGeneric, kAvx2, kAvx512 };

// The widest instruction set that this CPU has and the kernels are compiled for, or the one that
// HPC_CPU_ISA names (generic, avx2, avx512, avx512_bf16 or amx; the last two stand for kAvx512 with
// matrix instructions). Decided once per process. Throws std::invalid_argument when the name is
// unknown or the CPU lacks the instructions.
CpuIsa SelectedCpuIsa();

// "generic", "avx2" or "avx512".
const char* CpuIsaName(CpuIsa isa);

// Products of bfloat16. Both have kAvx512's instructions, and AMX has AVX512-BF16's.
enum class MatrixIsa { kNone, kAvx512Bf16, kAmx };

// The fastest that this CPU has and the system lets this process use, under HPC_CPU_ISA as above.
// Whoever sees kAmx may use AMX on any thread. Decided once per process; throws as SelectedCpuIsa.
MatrixIsa SelectedMatrixIsa();

// "none", "avx512_bf16" or "amx".
const char* MatrixIsaName(MatrixIsa isa);

}  // namespace kernels

#endif  // KERNELS_NATIVE_CPU_ISA_H_
