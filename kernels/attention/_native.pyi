"""Fused attention in C++; see native.cc. Addresses are those of contiguous tensors."""

from collections.abc import Mapping, Sequence

class CudaError(RuntimeError):
    """There is no CUDA driver, no kernel for the GPU, or the driver refused a call."""

def forward_cpu(
    dtype: str,
    sizes: Sequence[int],  # contract.Sizes
    options: Sequence[float],  # contract.Options
    # In the order of problem.h, 0 where there is none: q, k, v, out, lse, rotated_q, rotated_k and
    # the extras.
    tensors: Sequence[int],
) -> None: ...
def backward_cpu(
    dtype: str,
    sizes: Sequence[int],
    options: Sequence[float],
    # q, k, v, out, lse, grad_out, grad_lse, grad_q, grad_k, grad_v, grad_slopes, delta, rotated_q,
    # rotated_k and the extras.
    tensors: Sequence[int],
) -> None: ...
def exp2_cpu(input: int, count: int, output: int) -> None:
    """The softmax's own 2^x on `count` float32 values, for tests of its accuracy."""

def tanh_cpu(input: int, count: int, output: int) -> None:
    """The softcap's own tanh on `count` float32 values, for tests of its accuracy."""

def forward_triton(
    dtype: str,
    sizes: Sequence[int],
    options: Sequence[float],
    tensors: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def backward_triton(
    dtype: str,
    sizes: Sequence[int],
    options: Sequence[float],
    tensors: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def forward_cuda(
    dtype: str,
    sizes: Sequence[int],
    options: Sequence[float],
    tensors: Sequence[int],
    device: int,
    stream: int,
) -> None: ...
def backward_cuda(
    dtype: str,
    sizes: Sequence[int],
    options: Sequence[float],
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

def matrix_isa() -> str:
    """The matrix instructions in use for bfloat16: none, avx512_bf16 or amx."""

def limit_threads(limit: int) -> None:
    """From now on, use at most so many threads, unless HPC_NUM_THREADS is set.

    Calls of this thread use those of PyTorch's OpenMP runtime, if there is one.
    """

def num_threads() -> int:
    """The number of threads in use; HPC_NUM_THREADS, else the CPUs of this process or the limit."""
