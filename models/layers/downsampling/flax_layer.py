"""Anti-aliased downsampling in JAX; `torch_layer.py` is its twin.

Shape suffixes:
  B = batch, H = height, W = width, C = channels, h = height out, w = width out

Reference: Zhang, "Making Convolutional Networks Shift-Invariant Again",
https://arxiv.org/abs/1904.11486.
"""

import jax
import jax.numpy as jnp

from models.layers.downsampling.filters import binomial


def blur_pool(x_BHWC: jax.Array, filter_size: int, stride: int) -> jax.Array:
    """Blurs images, and of `stride` pixels, either way, keeps one.

    Args:
        x_BHWC: `[batch, height, width, channels]`, of sides of at least `filters.min_side`: beyond
            its borders an image continues by its reflection.
        filter_size: Height and width of the binomial filter, at least 2.
        stride: Sides are divided by it, rounding up.
    """
    # XLA's convolution of each channel by itself is 10 times slower on a CPU than these sums.
    x_BhWC = _blur(x_BHWC, filter_size, stride, axis=1)
    return _blur(x_BhWC, filter_size, stride, axis=2)


def _blur(x: jax.Array, filter_size: int, stride: int, *, axis: int) -> jax.Array:
    size = x.shape[axis]
    padding = [(0, 0)] * x.ndim
    padding[axis] = ((filter_size - 1) // 2, filter_size // 2)
    padded = jnp.pad(x, padding, mode="reflect")
    weighted = [
        weight * jax.lax.slice_in_dim(padded, shift, shift + size, stride, axis)
        for shift, weight in enumerate(binomial(filter_size))
    ]
    return sum(weighted[1:], weighted[0])
