"""Fused attention in C++; see native.cc. Addresses are those of contiguous tensors."""

from collections.abc import Mapping, Sequence

class CudaError(RuntimeError):
    """There is no CUDA driver, no kernel for the GPU, or the driver refused a call."""

def forward_cpu(
    dtype: str,
    sizes: Sequence[int],  # contract.Sizes
    causal: bool,
    softmax_scale: float,
    tensors: Sequence[int],  # q, k, v, out, lse
) -> None: ...
def backward_cpu(
    dtype: str,
    sizes: Sequence[int],
    causal: bool,
    softmax_scale: float,
    # q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v, delta
    tensors: Sequence[int],
) -> None: ...
def exp2_cpu(input: int, count: int, output: int) -> None:
    """The softmax's own 2^x on `count` float32 values, for tests of its accuracy."""

def forward_cuda(
    dtype: str,
    sizes: Sequence[int],
    causal: bool,
    softmax_scale: float,
    tensors: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def backward_cuda(
    dtype: str,
    sizes: Sequence[int],
    causal: bool,
    softmax_scale: float,
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

def num_threads() -> int:
    """The number of threads in use; HPC_NUM_THREADS, else the CPUs of this process."""
