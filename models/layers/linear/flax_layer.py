"""A linear layer in Flax; `torch_layer.py` is its twin."""

import jax
import jax.numpy as jnp
from flax import nnx


class Linear(nnx.Module):
    """`[..., inputs]` to `[..., outputs]`, in the dtype of its input, to which weights are cast."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True):
        self.kernel = nnx.Param(jnp.zeros((inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x @ self.kernel[...].astype(x.dtype)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)
