#include "kernels/native/cpu_isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace kernels {
namespace {

bool Supported(CpuIsa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case CpuIsa::kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    case CpuIsa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case CpuIsa::kGeneric:
      return true;
  }
#endif
  return isa == CpuIsa::kGeneric;
}

CpuIsa Select() {
  const char* requested = std::getenv("HPC_CPU_ISA");
  const bool choose = requested == nullptr || *requested == '\0';
  for (CpuIsa isa : {CpuIsa::kAvx512, CpuIsa::kAvx2, CpuIsa::kGeneric}) {
    if (choose && Supported(isa)) return isa;
    if (choose || CpuIsaName(isa) != std::string(requested)) continue;
    if (Supported(isa)) return isa;
    throw std::invalid_argument("HPC_CPU_ISA=" + std::string(requested) +
                                ": this CPU lacks these instructions; unset the variable");
  }
  throw std::invalid_argument("HPC_CPU_ISA must be generic, avx2 or avx512, got '" +
                              std::string(requested) + "'");
}

}  // namespace

CpuIsa SelectedCpuIsa() {
  static const CpuIsa isa = Select();
  return isa;
}

const char* CpuIsaName(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kAvx512:
      return "avx512";
    case CpuIsa::kAvx2:
      return "avx2";
    case CpuIsa::kGeneric:
      return "generic";
  }
  return "unknown";
}

}  // namespace kernels
