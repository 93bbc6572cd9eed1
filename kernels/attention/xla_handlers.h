// XLA FFI handlers of attention, for jax.ffi.register_ffi_target.
//
// forward:  (q, k, v, extras...) -> (out, lse, rotated_q, rotated_k)
// backward: (q, k, v, out, lse, grad_out, grad_lse, extras...)
//           -> (grad_q, grad_k, grad_v, grad_slopes, delta, rotated_q, rotated_k)
// Arrays as in problem.h, extras in the order of its struct; one without elements stands for null.
// Attributes: the fields of contract.Options.
#ifndef KERNELS_ATTENTION_XLA_HANDLERS_H_
#define KERNELS_ATTENTION_XLA_HANDLERS_H_

#include "xla/ffi/api/c_api.h"

extern "C" {
XLA_FFI_Error* HpcAttentionForwardCpu(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcAttentionBackwardCpu(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcAttentionForwardTriton(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcAttentionBackwardTriton(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcAttentionForwardCuda(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcAttentionBackwardCuda(XLA_FFI_CallFrame* call_frame);
}

#endif  // KERNELS_ATTENTION_XLA_HANDLERS_H_
