"""Dropout and stochastic depth in JAX; `torch_layer.py` is its twin, bit for bit.

What is dropped is a hash of the example's seed, the layer's name and the place in the example. So
both frameworks drop the same, however a batch is cut into ranks and micro-batches, and a layer that
is computed again for the way back drops what it had dropped.

Reference: Srivastava et al., "Dropout", JMLR 2014; Huang et al., "Deep Networks with Stochastic
Depth", https://arxiv.org/abs/1603.09382; the hash is lowbias32 of Wellons, "Prospecting for Hash
Functions", 2018, as in the attention kernels.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from models.context import Context, salt
from models.layers.dropout.hash import FIRST, GOLDEN_RATIO, SECOND


def dropout(x: jax.Array, rate: float, context: Context, name: str) -> jax.Array:
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
    return _dropped(x, x.shape[1:], rate * context.dropout_scale, context, name)


def stochastic_depth(x: jax.Array, rate: float, context: Context, name: str) -> jax.Array:
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


def layer_seeds(context: Context, name: str) -> jax.Array:
    """Returns `[batch]` uint32, the seeds of the layer `name`, for a kernel that draws itself."""
    return _mix(context.seeds_to_draw.astype(jnp.uint32) ^ np.uint32(salt(name)))


def uniform(context: Context, name: str, shape: tuple[int, ...]) -> jax.Array:
    """Draws float32 `[batch, *shape]`, multiples of 2^-24 in [0, 1), for the layer `name`."""
    keys = layer_seeds(context, name)
    places = _mix(np.uint32(GOLDEN_RATIO) * jnp.arange(1, math.prod(shape) + 1, dtype=jnp.uint32))
    bits = _mix(keys[:, None] ^ places).reshape(-1, *shape)
    return (bits >> 8).astype(jnp.float32) * np.float32(2.0**-24)


def _dropped(
    x: jax.Array, shape: tuple[int, ...], rate: jax.Array, context: Context, name: str
) -> jax.Array:
    rate = jnp.asarray(rate, jnp.float32)
    keep = (uniform(context, name, shape) >= rate).astype(jnp.float32) / (1 - rate)
    return x * keep.astype(x.dtype)


def _mix(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * np.uint32(FIRST)
    x = (x ^ (x >> 15)) * np.uint32(SECOND)
    return x ^ (x >> 16)
