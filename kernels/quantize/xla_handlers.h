// XLA FFI handlers of quantization, for jax.ffi.register_ffi_target.
//
// Arguments and results are the arrays of the structs in problem.h, in order, but that the new
// residual and the payload are results; an array without elements stands for none. Attributes are
// those of contract.Layout and contract.Codec, and the multiplier.
#ifndef KERNELS_QUANTIZE_XLA_HANDLERS_H_
#define KERNELS_QUANTIZE_XLA_HANDLERS_H_

#include "xla/ffi/api/c_api.h"

extern "C" {
XLA_FFI_Error* HpcQuantizeCpu(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcQuantizeTriton(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcDequantizeCpu(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcDequantizeTriton(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcReduceCpu(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcReduceTriton(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcReduceQuantizeCpu(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* HpcReduceQuantizeTriton(XLA_FFI_CallFrame* call_frame);
}

#endif  // KERNELS_QUANTIZE_XLA_HANDLERS_H_
