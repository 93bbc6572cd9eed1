#include "kernels/native/cuda_driver.h"

#include <dlfcn.h>

#include <cstdlib>
#include <string>

namespace kernels::cuda {
namespace {

template <typename Function>
void Resolve(void* library, const char* symbol, Function* function) {
  void* address = dlsym(library, symbol);
  if (address == nullptr) {
    throw Error(std::string("the CUDA driver lacks ") + symbol + "; install a newer driver");
  }
  *function = reinterpret_cast<Function>(address);
}

std::string ErrorText(const Driver& driver, int result) {
  const char* text = nullptr;
  if (driver.get_error_string(result, &text) != 0 || text == nullptr) text = "unknown error";
  return std::string(text) + " (CUDA error " + std::to_string(result) + ")";
}

Driver Open() {
  const char* override = std::getenv("HPC_LIBCUDA");
  const char* path = override != nullptr && *override != '\0' ? override : "libcuda.so.1";
  // Never closed: kernels may be in flight until the process ends.
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw Error(std::string("no NVIDIA driver: ") + dlerror() +
                "; kernels for CUDA need a GPU and its driver");
  }
  Driver driver;
  Resolve(library, "cuInit", &driver.init);
  Resolve(library, "cuGetErrorString", &driver.get_error_string);
  Resolve(library, "cuDeviceGet", &driver.device_get);
  Resolve(library, "cuDeviceGetAttribute", &driver.device_get_attribute);
  Resolve(library, "cuDevicePrimaryCtxRetain", &driver.primary_context_retain);
  Resolve(library, "cuCtxPushCurrent_v2", &driver.context_push);
  Resolve(library, "cuCtxPopCurrent_v2", &driver.context_pop);
  Resolve(library, "cuModuleLoadData", &driver.module_load_data);
  Resolve(library, "cuModuleGetFunction", &driver.module_get_function);
  Resolve(library, "cuFuncSetAttribute", &driver.function_set_attribute);
  Resolve(library, "cuLaunchKernel", &driver.launch_kernel);
  Resolve(library, "cuTensorMapEncodeTiled", &driver.tensor_map_encode_tiled);
  if (const int result = driver.init(0); result != 0) {
    throw Error("the CUDA driver does not start: " + ErrorText(driver, result));
  }
  return driver;
}

}  // namespace

const Driver& GetDriver() {
  // A throwing initialiser runs again at the next call.
  static const Driver driver = Open();
  return driver;
}

void Check(int result, const char* call) {
  if (result != 0) throw Error(std::string(call) + ": " + ErrorText(GetDriver(), result));
}

}  // namespace kernels::cuda
