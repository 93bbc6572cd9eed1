"""Tensors to a payload and back: their values one after the other, described by `Tensor` messages.

Nothing is copied here. What is sent is the arrays' own memory, and what was received is seen
through views of the memory into which it was received.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from hpc.serving.v1 import transport_pb2 as wire

from serving.core.signature import DTYPES
from serving.replicas.errors import FrameError
from serving.replicas.frames import Buffer

# A cache line, and what XLA wants of memory that it is to use as it is.
ALIGNMENT = 64

_ZEROS = bytes(ALIGNMENT)
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_MAX_DIMENSIONS = 32  # of NumPy before version 2, and plenty


class Tensors(Protocol):
    """A repeated field of `Tensor` messages."""

    def add(self, *, name: str, datatype: str, shape: Iterable[int]) -> object:
        """Appends one."""


def describe(
    tensors: Mapping[str, Sequence[np.ndarray]], batch_size: int, into: Tensors
) -> tuple[list[Buffer], int]:
    """Lays out tensors, each in parts along its first dimension.

    Args:
        tensors: By name; the parts [n_i, ...] of each are equal in dtype and in all dimensions but
            the first, and C-contiguous.
        batch_size: The sum of n_i, for each of them.
        into: Where a description of each is appended.

    Returns:
        The payload's buffers, and how many bytes they have together.

    Raises:
        ValueError: A part is not C-contiguous, or its dtype has no fixed size on the wire.
    """
    buffers: list[Buffer] = []
    size = 0
    for name, parts in tensors.items():
        first = parts[0]
        datatype = _NAMES.get(first.dtype)
        if datatype is None:
            raise ValueError(f"{name} has dtype {first.dtype}, of which no tensor is sent")
        into.add(name=name, datatype=datatype, shape=(batch_size, *first.shape[1:]))
        if gap := -size % ALIGNMENT:
            buffers.append(_ZEROS[:gap])
            size += gap
        for part in parts:
            if not part.flags.c_contiguous:
                raise ValueError(f"{name} is not C-contiguous")
            if part.nbytes:
                # Of types that are not its own, such as bfloat16, NumPy exports no buffer.
                buffers.append((part if part.dtype.kind in "biuf" else part.view(np.uint8)).data)
                size += part.nbytes
    return buffers, size


def views(
    tensors: Iterable[wire.Tensor], payload: bytes | np.ndarray, size: int
) -> dict[str, np.ndarray]:
    """Returns the tensors of a payload by name, read-only, in the payload's own memory.

    Args:
        tensors: What it holds.
        payload: Memory whose first bytes are the payload's.
        size: Of the payload in bytes, at most that of the memory.

    Raises:
        FrameError: The tensors do not take exactly that size.
    """
    arrays: dict[str, np.ndarray] = {}
    offset = 0
    for tensor in tensors:
        dtype, shape, tensor_bytes = _parsed(tensor)
        offset += -offset % ALIGNMENT
        name = tensor.name
        if offset + tensor_bytes > size:
            raise FrameError(f"a payload of {size} bytes, which ends within {name!r}")
        if name in arrays:
            raise FrameError(f"two tensors with the name {name!r}")
        try:
            array: np.ndarray = np.ndarray(shape, dtype, payload, offset)
        except (ValueError, OverflowError) as error:  # One dimension is 0, one beyond all memory.
            raise FrameError(f"tensor {name!r} has shape {list(shape)}") from error
        array.flags.writeable = False
        arrays[name] = array
        offset += tensor_bytes
    if offset != size:
        raise FrameError(f"a payload of {size} bytes for tensors that take {offset}")
    return arrays


def _parsed(tensor: wire.Tensor) -> tuple[np.dtype, tuple[int, ...], int]:
    """Its dtype, shape and size in bytes, by Python's integers: no product overflows."""
    dtype, shape = DTYPES.get(tensor.datatype), tuple(tensor.shape)
    if dtype is None:
        raise FrameError(f"tensor {tensor.name!r} has datatype {tensor.datatype!r}, which is none")
    if not 1 <= len(shape) <= _MAX_DIMENSIONS:
        raise FrameError(f"tensor {tensor.name!r} has {len(shape)} dimensions")
    return dtype, shape, math.prod(shape) * dtype.itemsize
