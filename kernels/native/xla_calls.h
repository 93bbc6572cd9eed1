// What the XLA FFI handlers of every operation share: arrays, attributes, errors and bindings.
//
// For the .cc file of an xla_ffi_library only, which has XLA's headers.
#ifndef KERNELS_NATIVE_XLA_CALLS_H_
#define KERNELS_NATIVE_XLA_CALLS_H_

#include <array>
#include <cstddef>
#include <exception>
#include <stdexcept>
#include <string>

#include "kernels/native/cuda_driver.h"
#include "kernels/native/parallel.h"
#include "xla/ffi/api/ffi.h"

namespace kernels {

namespace ffi = xla::ffi;
using Arrays = ffi::RemainingArgs;
using Outputs = ffi::RemainingRets;

inline ffi::AnyBuffer Array(const Arrays& arrays, size_t index) {
  return arrays.get<ffi::AnyBuffer>(index).value();
}

inline ffi::AnyBuffer Array(const Outputs& outputs, size_t index) {
  return **outputs.get<ffi::AnyBuffer>(index);
}

// Null for an empty array, which stands for one that is not given.
inline void* Data(const ffi::AnyBuffer& array) {
  return array.element_count() == 0 ? nullptr : array.untyped_data();
}

// All arrays of a call, inputs first. Throws std::invalid_argument when there are more or fewer.
template <size_t kInputs, size_t kOutputs>
std::array<void*, kInputs + kOutputs> Collect(const Arrays& in, const Outputs& out) {
  if (in.size() != kInputs || out.size() != kOutputs) {
    throw std::invalid_argument("an operation is called with a wrong number of arrays");
  }
  std::array<void*, kInputs + kOutputs> all;
  for (size_t i = 0; i < kInputs; ++i) all[i] = Data(Array(in, i));
  for (size_t i = 0; i < kOutputs; ++i) all[kInputs + i] = Data(Array(out, i));
  return all;
}

// Throws std::invalid_argument when there is none of this name and type.
template <typename T>
T Attribute(const ffi::Dictionary& attributes, const char* name) {
  const auto value = attributes.get<T>(name);
  if (!value.has_value()) {
    throw std::invalid_argument(std::string("an operation lacks the attribute ") + name);
  }
  return *value;
}

// Exceptions must not reach XLA: they become errors here.
template <typename Body>
ffi::Error Guard(const Body& body) {
  try {
    body();
    return ffi::Error::Success();
  } catch (const std::invalid_argument& error) {
    return ffi::Error::InvalidArgument(error.what());
  } catch (const std::exception& error) {
    return ffi::Error::Internal(error.what());
  }
}

// Uses as many threads as XLA does; it says 0 where it has no pool.
inline void RespectThreads(const ffi::ThreadPool& pool) {
  if (pool.num_threads() > 0) LimitThreads(static_cast<int>(pool.num_threads()));
}

// Of handlers (ThreadPool, Arrays, Outputs, Dictionary).
inline auto CpuBinding() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().RemainingRets().Attrs();
}

// Of handlers (cuda::Stream, int32_t device, Arrays, Outputs, Dictionary).
inline auto CudaBinding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::PlatformStream<cuda::Stream>>()
      .Ctx<ffi::DeviceOrdinal>()
      .RemainingArgs()
      .RemainingRets()
      .Attrs();
}

}  // namespace kernels

#endif  // KERNELS_NATIVE_XLA_CALLS_H_
