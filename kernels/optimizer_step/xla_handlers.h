// The XLA FFI handlers of an optimizer's step, for jax.ffi.register_ffi_target.
//
// Arguments: float32 [1 + scalars], the rate and the scalars; int32 [], the step; then of each
// tensor the weights, the gradient and the slots, float32 or payloads (uint8). Results: of each
// tensor the weights and the slots, in the memory of the arguments. Attributes: rule,
// decay_is_proximal, weight_decay, hyperparameters, and decays (int64, one a tensor).
#ifndef KERNELS_OPTIMIZER_STEP_XLA_HANDLERS_H_
#define KERNELS_OPTIMIZER_STEP_XLA_HANDLERS_H_

#include "xla/ffi/api/c_api.h"

extern "C" {
XLA_FFI_Error* HpcOptimizerStepCpu(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcOptimizerStepTriton(XLA_FFI_CallFrame* call_frame);
}

#endif  // KERNELS_OPTIMIZER_STEP_XLA_HANDLERS_H_
