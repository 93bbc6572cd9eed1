#include "kernels/native/cuda_launch.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <mutex>

namespace kernels::cuda {

class LoadedKernel {
 public:
  explicit LoadedKernel(KernelInfo kernel_info) : info(std::move(kernel_info)) {}

  const KernelInfo info;
  std::once_flag loaded;
  Context context = nullptr;
  Function function = nullptr;
};

namespace {

constexpr int kWarpSize = 32;
// What a launch may use without asking for more.
constexpr int kDefaultSharedBytes = 48 * 1024;
constexpr uintptr_t kAlignment = 16;

// Guards both maps. Loaded kernels are never removed: references to them are handed out.
std::mutex registry_mutex;
std::map<std::pair<std::string, int>, KernelInfo>& Registry() {
  static auto* registry = new std::map<std::pair<std::string, int>, KernelInfo>;
  return *registry;
}
std::map<std::pair<std::string, int>, std::unique_ptr<LoadedKernel>>& LoadedKernels() {
  static auto* kernels = new std::map<std::pair<std::string, int>, std::unique_ptr<LoadedKernel>>;
  return *kernels;
}

// Makes a context current for a scope.
class ScopedContext {
 public:
  explicit ScopedContext(Context context) {
    Check(GetDriver().context_push(context), "cuCtxPushCurrent");
  }
  ~ScopedContext() {
    Context popped;
    GetDriver().context_pop(&popped);
  }
  ScopedContext(const ScopedContext&) = delete;
  ScopedContext& operator=(const ScopedContext&) = delete;
};

Device DeviceOf(int ordinal) {
  Device device;
  Check(GetDriver().device_get(&device, ordinal), "cuDeviceGet");
  return device;
}

int Attribute(Device device, int attribute) {
  int value;
  Check(GetDriver().device_get_attribute(&value, attribute, device), "cuDeviceGetAttribute");
  return value;
}

int ComputeCapability(Device device) {
  return 10 * Attribute(device, kComputeCapabilityMajor) +
         Attribute(device, kComputeCapabilityMinor);
}

// Cubins run on later minor versions of their major one, unless they are specific to a chip.
bool RunsOn(const KernelInfo& info, int capability) {
  if (info.arch_specific) return info.arch == capability;
  return info.arch / 10 == capability / 10 && info.arch <= capability;
}

const KernelInfo& BestKernel(const std::string& name, int capability) {
  const KernelInfo* best = nullptr;
  std::string archs;
  for (const auto& [key, info] : Registry()) {
    if (key.first != name) continue;
    archs += (archs.empty() ? "sm_" : ", sm_") + std::to_string(info.arch);
    if (RunsOn(info, capability)) best = &info;  // In increasing order: the last is the newest.
  }
  if (best == nullptr) {
    throw Error("kernel " + name + " is not compiled for this GPU, sm_" +
                std::to_string(capability) + "; it is for " + (archs.empty() ? "none" : archs) +
                ". Bazel's --config=cuda and infra/gpu/run.sh compile all kernels");
  }
  return *best;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file || content.empty()) throw Error("cannot read the cubin " + path);
  return content;
}

void Load(LoadedKernel& kernel, Device device) {
  const Driver& driver = GetDriver();
  const std::string image = ReadFile(kernel.info.path);
  // The context that PyTorch and XLA use too; held until the process ends.
  Check(driver.primary_context_retain(&kernel.context, device), "cuDevicePrimaryCtxRetain");
  const ScopedContext current(kernel.context);
  Module module;
  Check(driver.module_load_data(&module, image.data()), "cuModuleLoadData");
  Check(driver.module_get_function(&kernel.function, module, kernel.info.symbol.c_str()),
        "cuModuleGetFunction");
  if (kernel.info.shared_bytes > kDefaultSharedBytes) {
    Check(driver.function_set_attribute(kernel.function, kMaxDynamicSharedBytes,
                                        kernel.info.shared_bytes),
          "cuFuncSetAttribute");
  }
}

// Names of the types that the arguments may have.
bool HasType(const Value& value, const std::string& type) {
  if (const auto* bytes = std::get_if<Struct>(&value)) {
    return type == "struct:" + std::to_string(bytes->size_bytes);
  }
  if (std::holds_alternative<void*>(value)) return type[0] == '*';
  if (std::holds_alternative<int32_t>(value)) return type == "i32";
  return type == (std::holds_alternative<int64_t>(value) ? "i64" : "fp32");
}

// The address of the argument for a parameter, as cuLaunchKernel wants it.
const void* FindArgument(const KernelInfo& info, const std::pair<std::string, std::string>& wanted,
                         Arguments arguments) {
  for (const auto& [name, value] : arguments) {
    if (wanted.first != name) continue;
    if (!HasType(value, wanted.second)) {
      throw Error(info.name + ": parameter " + name + " has type " + wanted.second);
    }
    if (const auto* pointer = std::get_if<void*>(&value)) {
      if (reinterpret_cast<uintptr_t>(*pointer) % kAlignment != 0) {
        throw Error(info.name + ": " + name + " must be aligned to 16 bytes");
      }
    }
    if (const auto* bytes = std::get_if<Struct>(&value)) return bytes->data;
    return std::visit([](const auto& v) { return static_cast<const void*>(&v); }, value);
  }
  throw Error(info.name + ": no argument for parameter " + wanted.first);
}

}  // namespace

void RegisterKernel(KernelInfo info) {
  const std::lock_guard<std::mutex> lock(registry_mutex);
  auto key = std::make_pair(info.name, info.arch);
  Registry()[std::move(key)] = std::move(info);
}

const LoadedKernel& FindKernel(const std::string& name, int device) {
  const Device handle = DeviceOf(device);
  LoadedKernel* kernel;
  {
    const std::lock_guard<std::mutex> lock(registry_mutex);
    auto& slot = LoadedKernels()[{name, device}];
    if (slot == nullptr) {
      slot = std::make_unique<LoadedKernel>(BestKernel(name, ComputeCapability(handle)));
    }
    kernel = slot.get();
  }
  std::call_once(kernel->loaded, [&] { Load(*kernel, handle); });
  return *kernel;
}

int MultiprocessorCount(int device) { return Attribute(DeviceOf(device), kMultiprocessorCount); }

int64_t Constant(const LoadedKernel& kernel, const char* name) {
  const auto found = kernel.info.constants.find(name);
  if (found == kernel.info.constants.end()) {
    throw Error(kernel.info.name + " has no constant " + name);
  }
  return found->second;
}

void Launch(const LoadedKernel& kernel, Stream stream, int64_t grid, Arguments arguments) {
  if (grid == 0) return;
  if (grid > std::numeric_limits<int32_t>::max()) {
    throw Error(kernel.info.name + ": the problem is too large for one launch");
  }
  std::vector<const void*> parameters;
  for (const auto& parameter : kernel.info.parameters) {
    parameters.push_back(FindArgument(kernel.info, parameter, arguments));
  }
  static constexpr void* kNoScratch = nullptr;
  for (int i = 0; i < kernel.info.num_scratch_parameters; ++i) parameters.push_back(&kNoScratch);
  const ScopedContext current(kernel.context);
  Check(GetDriver().launch_kernel(kernel.function, static_cast<unsigned>(grid), 1, 1,
                                  kernel.info.num_warps * kWarpSize, 1, 1, kernel.info.shared_bytes,
                                  stream, const_cast<void**>(parameters.data()), nullptr),
        "cuLaunchKernel");
}

}  // namespace kernels::cuda
