// Which vector instructions this process uses.
#ifndef KERNELS_NATIVE_CPU_ISA_H_
#define KERNELS_NATIVE_CPU_ISA_H_

namespace kernels {

enum class CpuIsa { kGeneric, kAvx2, kAvx512 };

// The widest instruction set that this CPU has and the kernels are compiled for, or the one that
// HPC_CPU_ISA names (generic, avx2 or avx512). Decided once per process. Throws
// std::invalid_argument when the name is unknown or the CPU lacks the instructions.
CpuIsa SelectedCpuIsa();

// "generic", "avx2" or "avx512".
const char* CpuIsaName(CpuIsa isa);

}  // namespace kernels

#endif  // KERNELS_NATIVE_CPU_ISA_H_
