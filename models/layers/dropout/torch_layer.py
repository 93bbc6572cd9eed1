"""Dropout and stochastic depth in PyTorch; `flax_layer.py` is its twin, bit for bit.

PyTorch has no arithmetic of unsigned 32 bits, so it is done in 64: of a product only the low bits
are kept.
"""

import math

import torch

from models.context import Context, salt
from models.layers.dropout.hash import FIRST, GOLDEN_RATIO, SECOND

_BITS = 0xFFFFFFFF


def dropout(x: torch.Tensor, rate: float, context: Context, name: str) -> torch.Tensor:
    """Sets values of `x [batch, ...]` to 0, each with probability `rate`.

    The others grow by 1 / (1 - rate).

    Args:
        x: What to drop of.
        rate: In [0, 1), before it is scaled by `context.dropout_scale`.
        context: Out of training nothing is dropped.
        name: Of the layer; each draws numbers of its own.
    """
    if not context.train or rate == 0.0:
        return x
    return _dropped(x, tuple(x.shape[1:]), rate * context.dropout_scale, context, name)


def stochastic_depth(x: torch.Tensor, rate: float, context: Context, name: str) -> torch.Tensor:
    """Sets whole examples of `x [batch, ...]`, what a residual branch adds, to 0.

    Args:
        x: What to drop of.
        rate: In [0, 1), before it is scaled by `context.stochastic_depth_scale`.
        context: Out of training nothing is dropped.
        name: Of the layer; each draws numbers of its own.
    """
    if not context.train or rate == 0.0:
        return x
    ones = (1,) * (x.ndim - 1)
    return _dropped(x, ones, rate * context.stochastic_depth_scale, context, name)


def layer_seeds(context: Context, name: str) -> torch.Tensor:
    """Returns `[batch]` int64 in [0, 2^32): the layer's seeds, for a kernel that draws itself."""
    return _mix((context.seeds_to_draw.long() & _BITS) ^ salt(name))


def uniform(context: Context, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Draws float32 `[batch, *shape]`, multiples of 2^-24 in [0, 1), for the layer `name`."""
    keys = layer_seeds(context, name)
    count = torch.arange(1, math.prod(shape) + 1, device=keys.device)
    places = _mix((GOLDEN_RATIO * count) & _BITS)
    bits = _mix(keys[:, None] ^ places).reshape(-1, *shape)
    return (bits >> 8).float() * 2.0**-24


def _dropped(
    x: torch.Tensor, shape: tuple[int, ...], rate: float, context: Context, name: str
) -> torch.Tensor:
    rate = torch.as_tensor(rate, dtype=torch.float32, device=x.device)
    keep = (uniform(context, name, shape) >= rate).float() / (1 - rate)
    return x * keep.to(x.dtype)


def _mix(x: torch.Tensor) -> torch.Tensor:
    x = ((x ^ (x >> 16)) * FIRST) & _BITS
    x = ((x ^ (x >> 15)) * SECOND) & _BITS
    return x ^ (x >> 16)
