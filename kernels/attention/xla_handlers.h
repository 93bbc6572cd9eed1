// XLA FFI handlers of attention, for jax.ffi.register_ffi_target.
//
// forward:  (q, k, v) -> (out, lse)
// backward: (q, k, v, out, lse, grad_out) -> (grad_q, grad_k, grad_v, delta)
// Attributes: causal (bool), softmax_scale (float64). Arrays as in problem.h.
#ifndef KERNELS_ATTENTION_XLA_HANDLERS_H_
#define KERNELS_ATTENTION_XLA_HANDLERS_H_

#include "xla/ffi/api/c_api.h"

extern "C" {
XLA_FFI_Error* HpcAttentionForwardCpu(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcAttentionBackwardCpu(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcAttentionForwardCuda(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcAttentionBackwardCuda(XLA_FFI_CallFrame* call_frame);
}

#endif  // KERNELS_ATTENTION_XLA_HANDLERS_H_
