"""Checks of the tensors among an operation's arguments, and what autocast makes of them."""

from typing import Any

import torch

from kernels import arguments

# Those that operations run on; to ask about any other is an error in PyTorch.
_AUTOCAST_DEVICES = ("cpu", "cuda")


def tensor(name: str, value: Any, *, or_else: str = "") -> torch.Tensor:
    """Returns a tensor.

    Raises:
      TypeError: it is none.
    """
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch Tensor{or_else}, got {arguments.given(value)}")
    return value


def real_tensor(name: str, value: Any, *, or_else: str = "") -> torch.Tensor:
    """Returns a tensor of numbers that are neither truth values nor complex.

    Raises:
      TypeError: it is none.
    """
    arguments.real_dtype(name, str(tensor(name, value, or_else=or_else).dtype))
    return value


def tensors(**values: Any) -> tuple[torch.Tensor, ...]:
    """Returns tensors by their names, in the dtype of autocast where that is on.

    It does as for PyTorch's own attention: what is floating point, but for float64, is cast.

    Raises:
      TypeError: one is no tensor.
    """
    given = tuple(tensor(name, value) for name, value in values.items())
    device = given[0].device.type
    if device not in _AUTOCAST_DEVICES or not torch.is_autocast_enabled(device):
        return given
    dtype = torch.get_autocast_dtype(device)
    return tuple(
        x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x for x in given
    )
