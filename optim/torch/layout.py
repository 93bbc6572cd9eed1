"""Whether tensors are what steps take: in memory of their own, and still as they were.

To ask each tensor of a model anew takes longer than to update a small one, so what was found out
about tensors once holds for as long as `Seen` finds them the same.
"""

from collections.abc import Sequence
from itertools import chain
from operator import is_

import torch

from kernels.torch_arguments import needed_bytes

# Compares type, dtype, device, shape, strides and the bit of a negative view of many tensors in one
# call: what torch.compile guards its own code by. One by one that takes ten times as long.
_Guards = torch._C._dynamo.guards.TensorGuards

_ADDRESS = torch.Tensor.data_ptr
_OFFSET = torch.Tensor.storage_offset
_STORAGE = torch.Tensor.untyped_storage


class Seen:
    """Tensors as they were in a step.

    Args:
      kept: Those that stay from step to step.
      grads: The gradients, of which each step has others.
    """

    def __init__(self, kept: Sequence[torch.Tensor], grads: Sequence[torch.Tensor]):
        self._kept = kept
        self._addresses = [*map(_ADDRESS, kept)]
        self._num_grads = len(grads)
        self._sizes = _storage_sizes(kept, grads)
        self._offsets = [*map(_OFFSET, grads)]
        shapes, strides = ([list(f(x)) for x in (*kept, *grads)] for f in (_shape, _stride))
        self._guards = _Guards(
            *kept, *grads, dynamic_dims_sizes=shapes, dynamic_dims_strides=strides
        )

    def are(self, kept: Sequence[object], grads: Sequence[torch.Tensor]) -> bool:
        """Whether `kept` are these very tensors, and all are laid out as they were."""
        return (
            len(kept) == len(self._kept)
            and len(grads) == self._num_grads
            and all(map(is_, kept, self._kept))
            and self._guards.check(*kept, *grads)
            and [*map(_ADDRESS, self._kept)] == self._addresses
            # Storages may be freed, cut, or made again at the same address.
            and _storage_sizes(self._kept, grads) == self._sizes
            and [*map(_OFFSET, grads)] == self._offsets
        )


def in_own_memory(x: torch.Tensor) -> bool:
    """Whether a tensor's memory holds all its elements, and each of them elsewhere."""
    if not x.numel() or x.is_meta:
        return True
    dims = sorted((stride, size) for stride, size in zip(x.stride(), x.shape, strict=True))
    last = 0  # The place of the last element of the dimensions so far.
    for stride, size in dims:
        if size > 1 and stride <= last:
            return False
        last += stride * (size - 1)
    return is_allocated(x)


def is_allocated(x: torch.Tensor) -> bool:
    """Whether a tensor's memory holds all its elements, and was not freed or cut short."""
    if not x.numel() or x.is_meta:
        return True
    return x.untyped_storage().nbytes() >= needed_bytes(x)


def _storage_sizes(*tensors: Sequence[torch.Tensor]) -> list[int]:
    return [*map(len, map(_STORAGE, chain(*tensors)))]  # in bytes


def _shape(x: torch.Tensor) -> torch.Size:
    return x.shape


def _stride(x: torch.Tensor) -> tuple[int, ...]:
    return x.stride()
