// Launches kernels that were compiled to cubins ahead of time.
//
// A kernel is registered once, with what the metadata of triton_compile.py or cuda_cubin.py says of
// it, and loaded on a device at its first launch there. Nothing here knows any operation.
#ifndef KERNELS_NATIVE_CUDA_LAUNCH_H_
#define KERNELS_NATIVE_CUDA_LAUNCH_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/native/cuda_driver.h"

namespace kernels::cuda {

// One cubin: a variant of a kernel for one architecture.
struct KernelInfo {
  std::string name;
  int arch;            // Compute capability times ten, such as 90.
  bool arch_specific;  // Runs on exactly this compute capability, not on later ones of its major.
  std::string path;    // Of the cubin.
  std::string symbol;
  // (name, type) in launch order; the types are Triton's, *..., i32, i64, fp32, and
  // struct:SIZE_IN_BYTES.
  std::vector<std::pair<std::string, std::string>> parameters;
  int num_scratch_parameters;  // Null pointers that follow the parameters.
  int num_warps;
  int shared_bytes;
  std::map<std::string, int64_t> constants;  // Such as BLOCK_Q.
};

// Adds a kernel; one of the same name and architecture is replaced.
void RegisterKernel(KernelInfo info);

// An argument of any type, by its bytes.
struct Struct {
  const void* data;
  size_t size_bytes;
};

using Value = std::variant<void*, int32_t, int64_t, float, Struct>;
using Arguments = std::initializer_list<std::pair<const char*, Value>>;

class LoadedKernel;

// The registered kernel of that name that runs on the device, loaded. Throws Error when there is
// none, or when the driver cannot load it.
const LoadedKernel& FindKernel(const std::string& name, int device);

// How many thread blocks with much shared memory a device runs at once: its multiprocessors.
int MultiprocessorCount(int device);

// A constant that the kernel was compiled with. Throws Error when it has none of that name.
int64_t Constant(const LoadedKernel& kernel, const char* name);

// Enqueues a one-dimensional grid on a stream of the device. Arguments are matched to the kernel's
// parameters by name; throws Error when one is missing or has another type. Does nothing for an
// empty grid. Pointers must be aligned to 16 bytes: the kernels are compiled for that.
void Launch(const LoadedKernel& kernel, Stream stream, int64_t grid, Arguments arguments);

}  // namespace kernels::cuda

#endif  // KERNELS_NATIVE_CUDA_LAUNCH_H_
