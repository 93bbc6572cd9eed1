"""The specification, called like the native code: on the arrays of problem.h, in its order.

Each function takes the inputs of one struct there, None for what is not given, and returns its
outputs; the bindings of both frameworks run them as the backend "reference". PyTorch's and XLA's
threads may flush subnormal numbers to zero: not within these functions.
"""

import contextlib
import ctypes
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kernels.quantize import reference
from kernels.quantize.contract import Codec, Layout
from kernels.quantize.reference import Bytes, Floats

Noise: TypeAlias = NDArray[np.uint32] | None

# FE_DFL_ENV of C's <fenv.h>, and more bytes than an fenv_t has.
_DEFAULT_ENVIRONMENT = ctypes.c_void_p(-1)
_ENVIRONMENT_BYTES = 256
_LIBM = ctypes.CDLL("libm.so.6")


@contextlib.contextmanager
def _default_floats() -> Iterator[None]:
    """Computes as IEEE 754 does by default, as DefaultFloats in kernels/native does."""
    previous = ctypes.create_string_buffer(_ENVIRONMENT_BYTES)
    _LIBM.fegetenv(previous)
    _LIBM.fesetenv(_DEFAULT_ENVIRONMENT)
    try:
        yield
    finally:
        _LIBM.fesetenv(previous)


@_default_floats()
def quantize(
    noise: Noise,
    x: Floats,
    residual: Floats | None,
    *,
    layout: Layout,
    codec: Codec,
    multiplier: float = 1.0,
) -> tuple[Floats | None, Bytes]:
    """Returns the new residual and the payload."""
    seed, offset = _seed_and_offset(noise)
    flat = None if residual is None else residual.reshape(-1)
    done = reference.quantize(x.reshape(-1), codec, layout, residual=flat, seed=seed, offset=offset)
    return done.residual, done.payload


@_default_floats()
def dequantize(
    payload: Bytes, *, layout: Layout, codec: Codec, multiplier: float = 1.0
) -> tuple[Floats]:
    """Returns the values."""
    return (reference.dequantize(payload, codec, layout),)


@_default_floats()
def reduce(
    payloads: Bytes, *, layout: Layout, codec: Codec, multiplier: float = 1.0
) -> tuple[Floats]:
    """Returns the sum."""
    return (reference.reduce(payloads, codec, layout.size, multiplier=multiplier),)


@_default_floats()
def reduce_quantize(
    noise: Noise,
    payloads: Bytes,
    residual: Floats | None,
    *,
    layout: Layout,
    codec: Codec,
    multiplier: float = 1.0,
) -> tuple[Floats | None, Bytes]:
    """Returns the new residual and the payload."""
    seed, offset = _seed_and_offset(noise)
    done = reference.reduce_quantize(
        payloads,
        codec,
        layout.size,
        multiplier=multiplier,
        residual=None if residual is None else residual.reshape(-1),
        seed=seed,
        offset=offset,
    )
    return done.residual, done.payload


def _seed_and_offset(noise: Noise) -> tuple[int, int]:
    if noise is None:
        return 0, 0
    seed, low, high = (int(word) for word in noise)
    return seed, low | high << 32
