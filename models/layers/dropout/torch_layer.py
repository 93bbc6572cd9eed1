"""Dropout and stochastic depth in PyTorch; `flax_layer.py` is its twin, bit for bit.

PyTorch has no shifts of unsigned 32 bits, so they are done in signed ones, whose products keep the
same low bits: those that a shift to the right copies from the sign are cleared. Tensors are changed
in place, without which most of the time went into memory.
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
    return _keys(context, name).long() & _BITS


def uniform(context: Context, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Draws float32 `[batch, *shape]`, multiples of 2^-24 in [0, 1), for the layer `name`."""
    keys = _keys(context, name)
    count = torch.arange(1, math.prod(shape) + 1, dtype=torch.int32, device=keys.device)
    places = _mix(count.mul_(_signed(GOLDEN_RATIO)))
    bits = _mix(keys[:, None] ^ places).reshape(-1, *shape)
    return bits.bitwise_right_shift_(8).bitwise_and_(0xFFFFFF).float().mul_(2.0**-24)


def _keys(context: Context, name: str) -> torch.Tensor:
    """Returns `[batch]` int32: what an example's seed and the layer's name make together."""
    seeds = context.seeds_to_draw
    if seeds.dtype != torch.int32:  # of which 32 bits count
        bits = seeds.long() & _BITS
        seeds = torch.where(bits < 2**31, bits, bits - 2**32).int()
    return _mix(seeds ^ _signed(salt(name)))


def _dropped(
    x: torch.Tensor, shape: tuple[int, ...], rate: float, context: Context, name: str
) -> torch.Tensor:
    rate = torch.as_tensor(rate, dtype=torch.float32, device=x.device)
    keep = (uniform(context, name, shape) >= rate).float() / (1 - rate)
    return x * keep.to(x.dtype)


def _mix(x: torch.Tensor) -> torch.Tensor:
    """Hashes int32 in place."""
    for shift, factor in ((16, FIRST), (15, SECOND)):
        x.bitwise_xor_(_shifted(x, shift)).mul_(_signed(factor))
    return x.bitwise_xor_(_shifted(x, 16))


def _shifted(x: torch.Tensor, shift: int) -> torch.Tensor:
    return (x >> shift).bitwise_and_((1 << (32 - shift)) - 1)


def _signed(bits: int) -> int:
    """Returns the number that has these 32 bits in two's complement."""
    return bits - 2**32 if bits >= 2**31 else bits
