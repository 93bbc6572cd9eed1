"""Layer and RMS norm in Flax; `torch_layer.py` is its twin.

Reference: Ba et al., "Layer Normalization", https://arxiv.org/abs/1607.06450; Zhang and Sennrich,
"Root Mean Square Layer Normalization", https://arxiv.org/abs/1910.07467.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from models.layers.norm.config import NormConfig


class Norm(nnx.Module):
    """`[..., width]` to the same, computed in float32 or more and returned in the input's dtype."""

    def __init__(self, config: NormConfig, width: int):
        self.kind, self.epsilon = config.kind, config.epsilon
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width)) if config.kind == "layer" else None

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.bias is not None:
            # E[x^2] - E[x]^2 would cancel catastrophically where PyTorch's variance does not.
            wide = wide - wide.mean(axis=-1, keepdims=True)
        variance = jnp.square(wide).mean(axis=-1, keepdims=True)
        y = wide * jax.lax.rsqrt(variance + self.epsilon) * self.scale[...].astype(wide.dtype)
        if self.bias is not None:
            y = y + self.bias[...].astype(wide.dtype)
        return y.astype(x.dtype)
