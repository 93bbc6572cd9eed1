"""Checks of the tensors among an operation's arguments, and what autocast makes of them."""

from typing import Any

import torch
from torch.compiler import is_compiling

from kernels import arguments

# Those that operations run on; to ask about any other is an error in PyTorch.
_AUTOCAST_DEVICES = ("cpu", "cuda")

# Others may keep their values elsewhere, or have none.
_TYPES_WITH_STORAGE = (torch.Tensor, torch.nn.Parameter)


def tensor(name: str, value: Any, *, or_else: str = "") -> torch.Tensor:
    """Returns a tensor.

    Raises:
      TypeError: it is none.
      ValueError: its memory was freed, or ends before its values do.
    """
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch Tensor{or_else}, got {arguments.given(value)}")
    if not is_compiling():
        memory(name, value)
    return value


def memory(name: str, x: torch.Tensor) -> None:
    """Raises ValueError if the memory of a tensor was freed, or ends before its values do.

    `untyped_storage().resize_` does that, with which some give memory back for a while.
    """
    try:
        has = x.untyped_storage().nbytes()
    except RuntimeError:  # In a transform of torch.func, or sparse.
        if torch._C._functorch.is_functorch_wrapped_tensor(x):
            memory(name, torch._C._functorch.get_unwrapped(x))
        return
    if has == x.nbytes and not x.storage_offset() and x.is_contiguous():
        return  # As nearly all are; the rest takes a microsecond.
    if type(x) not in _TYPES_WITH_STORAGE or not x.numel():
        return
    if has < (needs := needed_bytes(x)):
        raise ValueError(
            f"{name} of shape {tuple(x.shape)} needs {needs} bytes of memory, but its storage has "
            f"{has}: it was freed or cut, as by untyped_storage().resize_"
        )


def needed_bytes(x: torch.Tensor) -> int:
    """Returns where, in its storage, the memory of a tensor with elements ends."""
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return (x.storage_offset() + last + 1) * x.itemsize


def real_tensor(name: str, value: Any, *, or_else: str = "") -> torch.Tensor:
    """Returns a tensor of numbers that are neither truth values nor complex.

    Raises:
      TypeError: it is none.
      ValueError: as `tensor`.
    """
    arguments.real_dtype(name, str(tensor(name, value, or_else=or_else).dtype))
    return value


def tensors(**values: Any) -> tuple[torch.Tensor, ...]:
    """Returns tensors by their names, in the dtype of autocast where that is on.

    It does as for PyTorch's own attention: what is floating point, but for float64, is cast.

    Raises:
      TypeError: one is no tensor.
      ValueError: as `tensor`.
    """
    given = tuple(tensor(name, value) for name, value in values.items())
    device = given[0].device.type
    if device not in _AUTOCAST_DEVICES or not torch.is_autocast_enabled(device):
        return given
    dtype = torch.get_autocast_dtype(device)
    return tuple(
        x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x for x in given
    )
