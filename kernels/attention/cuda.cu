// Attention for Hopper, compiled for sm_90a: one kernel for each form of it that cuda.cc launches.
#include <cstdint>

#include "kernels/attention/sm90/config.h"
#include "kernels/attention/sm90/forward.h"
#include "kernels/attention/sm90/hardware.h"
#include "kernels/attention/sm90/keys.h"
#include "kernels/attention/sm90/keys_config.h"

namespace kernels::attention::sm90 {

// A kernel, its configuration last, and constants that cuda_cubin.py takes to the metadata.
#define SM90_KERNEL(name, function, parameters, ...)                                  \
  using Config_##name = __VA_ARGS__;                                                  \
  extern "C" __device__ const int name##__SHARED_BYTES = Config_##name::kSharedBytes; \
  extern "C" __device__ const int name##__BLOCK_Q = Config_##name::kBlockQ;           \
  extern "C" __device__ const int name##__BLOCK_K = Config_##name::kBlockK;           \
  extern "C" __global__ void __launch_bounds__(Config_##name::kThreads, 1)            \
      name(const __grid_constant__ parameters params) {                               \
    extern __shared__ __align__(1024) uint8_t shared[];                               \
    Gpu gpu{static_cast<uint32_t>(__cvta_generic_to_shared(shared))};                 \
    function<Config_##name>(gpu, params);                                             \
  }

#define SM90_KERNELS(form, type, head_dim, windowed, alibi)           \
  SM90_KERNEL(attention_sm90_fwd_##form, Forward, ForwardParams,      \
              ForwardConfig<type, head_dim, windowed, alibi>)         \
  SM90_KERNEL(attention_sm90_bwd_kv_##form, BackwardKeys, KeysParams, \
              KeysConfig<type, head_dim, windowed, alibi>)

#define SM90_FORMS(name, type, head_dim)                     \
  SM90_KERNELS(name, type, head_dim, false, false)           \
  SM90_KERNELS(name##_windowed, type, head_dim, true, false) \
  SM90_KERNELS(name##_alibi, type, head_dim, false, true)    \
  SM90_KERNELS(name##_windowed_alibi, type, head_dim, true, true)

// What tests look at is a sample: float16 is as bfloat16.
#ifndef HPC_SAMPLE
SM90_FORMS(float16_d64, Float16, 64)
SM90_FORMS(float16_d128, Float16, 128)
#endif
SM90_FORMS(bfloat16_d64, BFloat16, 64)
SM90_FORMS(bfloat16_d128, BFloat16, 128)

}  // namespace kernels::attention::sm90
