"""Learned positions in Flax; `torch_layer.py` is its twin.

Shape suffixes:
  B = batch, T = tokens, D = width
"""

import jax
import jax.numpy as jnp
from flax import nnx

from models.context import Context


class LearnedPositions(nnx.Module):
    """Adds to tokens `[batch, seq_len, width]` the vectors of their positions.

    Positions are counted over an example's tokens without its padding, on whichever side that is,
    and in decoding from the tokens before on.
    """

    def __init__(self, seq_len: int, width: int, *, name: str):
        self.name = name
        self.embedding = nnx.Param(jnp.zeros((seq_len, width)))

    def __call__(self, x_BTD: jax.Array, context: Context) -> jax.Array:
        table = self.embedding[...].astype(x_BTD.dtype)
        if context.segment_ids is None and context.caches is None:
            return x_BTD + table[: x_BTD.shape[1]]
        return x_BTD + jnp.take(table, self._positions(x_BTD, context), axis=0, mode="clip")

    def _positions(self, x_BTD: jax.Array, context: Context) -> jax.Array:
        """Returns the position of each token, `[batch, seq_len]`; of padding, any."""
        ids = context.segment_ids
        present_BT = jnp.ones(x_BTD.shape[:2], jnp.int32) if ids is None else (ids >= 0)
        counts_BT = jnp.cumsum(present_BT, axis=1, dtype=jnp.int32)
        if context.caches is not None:
            counts_BT = counts_BT + context.caches.get(self.name, jnp.zeros((1, 1), jnp.int32))
            context.sown.caches[self.name] = counts_BT[:, -1:]
        return counts_BT - 1
