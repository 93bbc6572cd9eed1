"""What the PyTorch side of every operation needs of tensors: dtypes, layout, places in memory."""

from typing import TypeAlias

import torch

# Of what the CUDA kernels load in vectors.
ALIGNMENT_BYTES = 16

# Looked up several times a call; str(dtype) takes a microsecond.
_DTYPE_NAMES = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
    torch.uint8: "uint8",
}

MaybeTensor: TypeAlias = torch.Tensor | None


def dtype_name(x: torch.Tensor) -> str:
    """Numpy's name of the dtype of x."""
    return _DTYPE_NAMES.get(x.dtype) or str(x.dtype).removeprefix("torch.")


def sum_dtype(x: torch.Tensor) -> torch.dtype:
    """The type of the sums over values of x."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def dense(x: torch.Tensor) -> torch.Tensor:
    """Contiguous, and aligned as the vector loads of the CUDA kernels need it."""
    return aligned(x.contiguous())


def aligned(x: torch.Tensor) -> torch.Tensor:
    """A tensor, or a copy of it, that starts where the vector loads of the CUDA kernels need it."""
    return x if x.data_ptr() % ALIGNMENT_BYTES == 0 else x.clone()


def addresses(*tensors: MaybeTensor) -> list[int]:
    """Where tensors start; 0 for those without elements and those that are not there."""
    return [0 if x is None or not x.numel() else x.data_ptr() for x in tensors]


def queue(x: torch.Tensor) -> tuple[int, int]:
    """The ordinal of a CUDA tensor's device, and the stream in which PyTorch works there now."""
    return x.device.index, torch.cuda.current_stream(x.device).cuda_stream
