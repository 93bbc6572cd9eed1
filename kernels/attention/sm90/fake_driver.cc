// A CUDA driver with an emulated Hopper GPU of three multiprocessors, for sm90_test.cc: launches of
// the kernels of cuda.cu run on the host. It refuses what a driver refuses.
//
// FAKE_GPU_SEED   the order in which threads run
// FAKE_GPU_EAGER  "1": copies and products happen early; "0": late
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <type_traits>

#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/emulation.h"
#include "kernels/attention/sm90/forward.h"
#include "kernels/attention/sm90/keys.h"
#include "kernels/attention/sm90/keys_config.h"

namespace {

namespace sm90 = kernels::attention::sm90;

constexpr int kInvalidValue = 1;
constexpr int kMultiprocessors = 3;

struct Function {
  std::string name;
  int max_shared_bytes;
};

struct LaunchArguments {
  int grid;
  int threads;
  int shared_bytes;
  const void* params;
};

int Environment(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? 0 : std::atoi(text);
}

// Runs body(hardware) in each thread of each thread block.
template <class Config, class Body>
int RunBlocks(const LaunchArguments& launch, Body body) {
  if (launch.threads != Config::kThreads || launch.shared_bytes != Config::kSharedBytes) {
    return kInvalidValue;
  }
  for (int block = 0; block < launch.grid; ++block) {
    sm90::ThreadBlock thread_block({block, launch.grid, launch.threads, launch.shared_bytes,
                                    static_cast<uint32_t>(Environment("FAKE_GPU_SEED") + block),
                                    Environment("FAKE_GPU_EAGER") != 0});
    thread_block.Run(body);
  }
  return 0;
}

template <class Config>
int RunForward(const LaunchArguments& launch) {
  const auto& params = *static_cast<const sm90::ForwardParams*>(launch.params);
  return RunBlocks<Config>(launch, [&](auto& gpu) { sm90::Forward<Config>(gpu, params); });
}

template <class Config>
int RunKeys(const LaunchArguments& launch) {
  const auto& params = *static_cast<const sm90::KeysParams*>(launch.params);
  return RunBlocks<Config>(launch, [&](auto& gpu) { sm90::BackwardKeys<Config>(gpu, params); });
}

using Kernel = int (*)(const LaunchArguments&);

template <class Type, int kHeadDim, bool kWindowed, bool kAlibi>
void AddKernels(const std::string& type, std::map<std::string, Kernel>& kernels) {
  const std::string form = type + (kWindowed ? "_windowed" : "") + (kAlibi ? "_alibi" : "");
  kernels["attention_sm90_fwd_" + form] =
      &RunForward<sm90::ForwardConfig<Type, kHeadDim, kWindowed, kAlibi>>;
  kernels["attention_sm90_bwd_kv_" + form] =
      &RunKeys<sm90::KeysConfig<Type, kHeadDim, kWindowed, kAlibi>>;
}

template <class Type, int kHeadDim>
void AddForms(const std::string& type, std::map<std::string, Kernel>& kernels) {
  AddKernels<Type, kHeadDim, false, false>(type, kernels);
  AddKernels<Type, kHeadDim, false, true>(type, kernels);
  AddKernels<Type, kHeadDim, true, false>(type, kernels);
  AddKernels<Type, kHeadDim, true, true>(type, kernels);
}

const std::map<std::string, Kernel>& Kernels() {
  static const std::map<std::string, Kernel> kernels = [] {
    std::map<std::string, Kernel> all;
    AddForms<sm90::Float16, 64>("float16_d64", all);
    AddForms<sm90::BFloat16, 128>("bfloat16_d128", all);
    return all;
  }();
  return kernels;
}

// The conditions in the documentation of cuTensorMapEncodeTiled, for swizzled boxes of two-byte
// elements of contiguous arrays.
bool IsValidMap(const void* map, uint32_t rank, const void* address, const uint64_t* sizes,
                const uint64_t* strides, const uint32_t* box, const uint32_t* steps, int swizzle) {
  constexpr int kSwizzle128Bytes = 3;
  if (reinterpret_cast<uintptr_t>(map) % 64 != 0 || rank != 4) return false;
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0 || swizzle != kSwizzle128Bytes) return false;
  if (box[0] * 2 != 128) return false;
  for (uint32_t i = 0; i < rank; ++i) {
    if (sizes[i] < 1 || sizes[i] > uint64_t{1} << 32) return false;
    if (box[i] < 1 || box[i] > 256 || steps[i] != 1) return false;
  }
  uint64_t stride = 2;
  for (uint32_t i = 0; i + 1 < rank; ++i) {
    stride *= sizes[i];
    if (strides[i] != stride || strides[i] % 16 != 0 || strides[i] >> 40 != 0) return false;
  }
  return true;
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return 0; }

int cuGetErrorString(int, const char** text) {
  *text = "invalid argument";
  return 0;
}

int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return 0;
}

int cuDeviceGetAttribute(int* value, int attribute, int) {
  constexpr int kMultiprocessorCount = 16;
  constexpr int kComputeCapabilityMajor = 75;
  *value = attribute == kMultiprocessorCount      ? kMultiprocessors
           : attribute == kComputeCapabilityMajor ? 9
                                                  : 0;
  return 0;
}

int cuDevicePrimaryCtxRetain(void**, int) { return 0; }
int cuCtxPushCurrent_v2(void*) { return 0; }
int cuCtxPopCurrent_v2(void**) { return 0; }
int cuModuleLoadData(void**, const void*) { return 0; }

int cuModuleGetFunction(void** function, void*, const char* name) {
  *function = new Function{name, 48 * 1024};
  return Kernels().count(name) == 1 ? 0 : kInvalidValue;
}

int cuFuncSetAttribute(void* function, int attribute, int value) {
  constexpr int kMaxDynamicSharedBytes = 8;
  if (attribute != kMaxDynamicSharedBytes) return kInvalidValue;
  static_cast<Function*>(function)->max_shared_bytes = value;
  return 0;
}

int cuTensorMapEncodeTiled(void* map, int, uint32_t rank, void* address, const uint64_t* sizes,
                           const uint64_t* strides, const uint32_t* box, const uint32_t* steps, int,
                           int swizzle, int, int) {
  if (!IsValidMap(map, rank, address, sizes, strides, box, steps, swizzle)) return kInvalidValue;
  // Until the process ends: maps are copied by value.
  const auto size = [&](int i) { return static_cast<int32_t>(sizes[i]); };
  const auto* array =
      new sm90::HostArray{static_cast<uint16_t*>(address), size(0), size(1), size(2), size(3),
                          static_cast<int32_t>(box[2])};
  *static_cast<sm90::TensorMap*>(map) = sm90::MapOf(*array);
  return 0;
}

int cuLaunchKernel(void* function, unsigned grid_x, unsigned, unsigned, unsigned block_x, unsigned,
                   unsigned, unsigned shared_bytes, void*, void** parameters, void**) {
  const auto& kernel = *static_cast<const Function*>(function);
  if (static_cast<int>(shared_bytes) > kernel.max_shared_bytes) return kInvalidValue;
  return Kernels().at(kernel.name)({static_cast<int>(grid_x), static_cast<int>(block_x),
                                    static_cast<int>(shared_bytes), parameters[0]});
}

}  // extern "C"
