"""A step of an optimizer in C++; see native.cc."""

from collections.abc import Mapping, Sequence

class CudaError(RuntimeError):
    """There is no CUDA driver, no kernel for the GPU, or the driver refused a call."""

def read_counters(counters: Sequence[int]) -> list[int]:
    """Returns the counts, float32, at these addresses; a ValueError if one is none."""

def count_up(counters: Sequence[int]) -> None:
    """Adds 1 to the float32 at each of these addresses."""

def step_cpu(
    *,
    rule: int,  # index in contract.RULES
    decay_is_proximal: bool,
    step: int,
    rate: float,
    weight_decay: float,
    hyperparameters: Sequence[float],
    scalars: Sequence[float],
    rows: Sequence[int],
) -> None:
    """Updates all tensors in place.

    `rows` has of each tensor, one after the other: its size, the index of its dtype in
    contract.DTYPES, whether its slots are bytes, whether it decays, its index for contract.seed,
    and of the weights, the gradient and each slot the address and how many bytes there are.

    Raises:
      ValueError: There are fewer bytes than a tensor's size needs, or what is no rule, dtype or
        size; nothing was changed.
    """

def step_triton(
    *,
    rule: int,
    decay_is_proximal: bool,
    weight_decay: float,
    hyperparameters: Sequence[float],
    numbers: int,
    rows: Sequence[int],
    device: int,
    stream: int,
) -> None:
    """Enqueues the update of all tensors in place.

    `numbers` is the address, on the device and a multiple of 16 bytes, of the step as int32, and
    16 bytes on, of the rate and the scalars as float32. Those of `rows` are on the device too.
    """

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
