// XLA FFI handlers of linear attention, for jax.ffi.register_ffi_target.
//
// Arguments and results are the arrays of ForwardTensors and BackwardTensors in problem.h, in
// order; an array without elements stands for none. Attributes are those of contract.Options.
#ifndef KERNELS_LINEAR_ATTENTION_XLA_HANDLERS_H_
#define KERNELS_LINEAR_ATTENTION_XLA_HANDLERS_H_

#include "xla/ffi/api/c_api.h"

extern "C" {
XLA_FFI_Error* HpcLinearAttentionForwardCpu(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcLinearAttentionBackwardCpu(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcLinearAttentionForwardTriton(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcLinearAttentionBackwardTriton(XLA_FFI_CallFrame* call_frame);
}

#endif  // KERNELS_LINEAR_ATTENTION_XLA_HANDLERS_H_
