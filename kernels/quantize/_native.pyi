"""Quantization in C++; see native.cc. Addresses are those of contiguous tensors; 0: none."""

from collections.abc import Mapping, Sequence

class CudaError(RuntimeError):
    """There is no CUDA driver, no kernel for the GPU, or the driver refused a call."""

def quantize_cpu(
    dtype: str,
    layout: Sequence[int],  # contract.Layout
    codec: Sequence[int],  # contract.Codec
    multiplier: float,
    tensors: Sequence[int],  # noise, x, residual_in, residual_out, payload
) -> None: ...
def dequantize_cpu(
    dtype: str,
    layout: Sequence[int],
    codec: Sequence[int],
    multiplier: float,
    tensors: Sequence[int],  # payload, out
) -> None: ...
def reduce_cpu(
    dtype: str,
    layout: Sequence[int],
    codec: Sequence[int],
    multiplier: float,
    tensors: Sequence[int],  # payloads, out
) -> None: ...
def reduce_quantize_cpu(
    dtype: str,
    layout: Sequence[int],
    codec: Sequence[int],
    multiplier: float,
    tensors: Sequence[int],  # noise, payloads, residual_in, residual_out, payload
) -> None: ...
def quantize_triton(
    dtype: str,
    layout: Sequence[int],
    codec: Sequence[int],
    multiplier: float,
    tensors: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def dequantize_triton(
    dtype: str,
    layout: Sequence[int],
    codec: Sequence[int],
    multiplier: float,
    tensors: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def reduce_triton(
    dtype: str,
    layout: Sequence[int],
    codec: Sequence[int],
    multiplier: float,
    tensors: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def reduce_quantize_triton(
    dtype: str,
    layout: Sequence[int],
    codec: Sequence[int],
    multiplier: float,
    tensors: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def register_kernel(
    *,
    name: str,
    arch: int,
    arch_specific: bool,
    path: str,
    symbol: str,
    parameters: Sequence[tuple[str, str]],
    num_scratch_parameters: int,
    num_warps: int,
    shared_bytes: int,
    constants: Mapping[str, int],
) -> None: ...
def xla_handlers() -> list[tuple[str, str, object]]:
    """(target, platform, capsule) of each XLA FFI handler."""

def cpu_isa() -> str:
    """The vector instructions in use: generic, avx2 or avx512."""

def limit_threads(limit: int) -> None:
    """From now on, use at most so many threads, unless HPC_NUM_THREADS is set.

    Calls of this thread use those of PyTorch's OpenMP runtime, if there is one.
    """

def num_threads() -> int:
    """The number of threads in use; HPC_NUM_THREADS, else the CPUs of this process or the limit."""
