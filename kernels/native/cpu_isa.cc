#include "kernels/native/cpu_isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

// Linux gives a process AMX's registers, 8 KiB for each thread that uses them, only on request.
bool RequestAmx() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr unsigned kAmxBits = (1u << 22) | (1u << 24);  // AMX-BF16 and AMX-TILE in edx of leaf 7.
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (edx & kAmxBits) != kAmxBits)
    return false;
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

bool Supported(MatrixIsa isa) {
#if defined(__x86_64__)
  // VBMI2 comes with every CPU that has AVX512-BF16 but the first; the kernels use both.
  const bool has_bf16 = Supported(CpuIsa::kAvx512) && __builtin_cpu_supports("avx512bf16") &&
                        __builtin_cpu_supports("avx512vbmi2");
  if (isa == MatrixIsa::kAmx) return has_bf16 && RequestAmx();
  if (isa == MatrixIsa::kAvx512Bf16) return has_bf16;
#endif
  return isa == MatrixIsa::kNone;
}

struct Selection {
  CpuIsa vector;
  MatrixIsa matrix;
};

// From the best to the least.
constexpr Selection kSelections[] = {{CpuIsa::kAvx512, MatrixIsa::kAmx},
                                     {CpuIsa::kAvx512, MatrixIsa::kAvx512Bf16},
                                     {CpuIsa::kAvx512, MatrixIsa::kNone},
                                     {CpuIsa::kAvx2, MatrixIsa::kNone},
                                     {CpuIsa::kGeneric, MatrixIsa::kNone}};

Selection Select() {
  const char* requested = std::getenv("HPC_CPU_ISA");
  const bool choose = requested == nullptr || *requested == '\0';
  for (const Selection& s : kSelections) {
    const char* name =
        s.matrix == MatrixIsa::kNone ? CpuIsaName(s.vector) : MatrixIsaName(s.matrix);
    if (!choose && name != std::string(requested)) continue;
    if (Supported(s.vector) && Supported(s.matrix)) return s;
    if (choose) continue;
    throw std::invalid_argument("HPC_CPU_ISA=" + std::string(requested) +
                                ": this CPU lacks these instructions; unset the variable");
  }
  throw std::invalid_argument(
      "HPC_CPU_ISA must be generic, avx2, avx512, avx512_bf16 or amx, got '" +
      std::string(requested) + "'");
}

const Selection& Selected() {
  static const Selection selection = Select();
  return selection;
}

}  // namespace

CpuIsa SelectedCpuIsa() { return Selected().vector; }

MatrixIsa SelectedMatrixIsa() { return Selected().matrix; }

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

const char* MatrixIsaName(MatrixIsa isa) {
  switch (isa) {
    case MatrixIsa::kAmx:
      return "amx";
    case MatrixIsa::kAvx512Bf16:
      return "avx512_bf16";
    case MatrixIsa::kNone:
      return "none";
  }
  return "unknown";
}

}  // namespace kernels
