// The few functions of the CUDA driver that launching a cubin takes.
//
// The driver is opened at run time, with types of our own, so that one binary serves machines with
// and without a GPU and building needs neither CUDA's headers nor its libraries.
#ifndef KERNELS_NATIVE_CUDA_DRIVER_H_
#define KERNELS_NATIVE_CUDA_DRIVER_H_

#include <cstdint>
#include <stdexcept>

namespace kernels::cuda {

// Thrown when there is no driver, or when it refuses a call.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

using Device = int;
using Context = struct OpaqueContext*;
using Module = struct OpaqueModule*;
using Function = struct OpaqueFunction*;
using Stream = struct OpaqueStream*;

// Where a launch goes: the ordinal of a device and a stream of its primary context.
struct Queue {
  int device;
  Stream stream;
};

// Values of CUdevice_attribute and CUfunction_attribute.
constexpr int kMultiprocessorCount = 16;
constexpr int kComputeCapabilityMajor = 75;
constexpr int kComputeCapabilityMinor = 76;
constexpr int kMaxDynamicSharedBytes = 8;

// Each member is the function of the driver that its symbol in cuda_driver.cc names; see NVIDIA's
// "CUDA Driver API". All return 0 for success.
struct Driver {
  int (*init)(unsigned flags);
  int (*get_error_string)(int error, const char** text);
  int (*device_get)(Device* device, int ordinal);
  int (*device_get_attribute)(int* value, int attribute, Device device);
  int (*primary_context_retain)(Context* context, Device device);
  int (*context_push)(Context context);
  int (*context_pop)(Context* context);
  int (*module_load_data)(Module* module, const void* image);
  int (*module_get_function)(Function* function, Module module, const char* name);
  int (*function_set_attribute)(Function function, int attribute, int value);
  int (*launch_kernel)(Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                       Stream stream, void** parameters, void** extra);
  int (*tensor_map_encode_tiled)(void* map, int data_type, uint32_t rank, void* address,
                                 const uint64_t* sizes, const uint64_t* strides_bytes,
                                 const uint32_t* box, const uint32_t* element_strides,
                                 int interleave, int swizzle, int l2_promotion, int fill);
};

// The driver, initialised: libcuda.so.1, or the file that HPC_LIBCUDA names. Throws Error.
const Driver& GetDriver();

// Throws Error, with the driver's words for it, unless `result` is 0.
void Check(int result, const char* call);

}  // namespace kernels::cuda

#endif  // KERNELS_NATIVE_CUDA_DRIVER_H_
