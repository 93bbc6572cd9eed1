"""A head in Flax; `torch_layer.py` is its twin.

Shape suffixes:
  B = batch, T = tokens, D = width, K = outputs
"""

import jax
import jax.numpy as jnp
from flax import nnx

from models.context import Context
from models.layers.dropout.flax_layer import dropout
from models.layers.head.config import HeadConfig


class Head(nnx.Module):
    """Tokens `[batch, seq_len, width]` to `[batch, outputs]`, of the next token for each of them.

    What it returns is float32 or more. Padding has no part in an answer.
    """

    def __init__(self, config: HeadConfig, width: int, outputs: int, *, name: str):
        self.config, self.name = config, name
        self.kernel = None if config.tied else nnx.Param(jnp.zeros((width, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if config.bias else None

    def __call__(
        self, x_BTD: jax.Array, context: Context, embedding_KD: jax.Array | None = None
    ) -> jax.Array:
        x = x_BTD if self.config.kind == "next_token" else self._pooled(x_BTD, context)
        x = dropout(x, self.config.dropout_rate, context, self.name)
        kernel = self._kernel(embedding_KD).astype(x.dtype)
        y = (x @ kernel).astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.bias is not None:
            y = y + self.bias[...].astype(y.dtype)
        softcap = self.config.logit_softcap
        return y if softcap is None else softcap * jnp.tanh(y / softcap)

    def _kernel(self, embedding_KD: jax.Array | None) -> jax.Array:
        if self.kernel is not None:
            return self.kernel[...]
        assert embedding_KD is not None, "a tied head is given the embedding"
        return embedding_KD.T

    def _pooled(self, x_BTD: jax.Array, context: Context) -> jax.Array:
        """Returns the one vector of each example, `[batch, width]`."""
        pooling, ids = self.config.pooling, context.segment_ids
        if ids is None and pooling != "mean":
            return x_BTD[:, 0 if pooling == "class_token" else -1]
        # In float16 a sum of many tokens would be infinite.
        wide_BTD = x_BTD.astype(jnp.promote_types(x_BTD.dtype, jnp.float32))
        if ids is None:
            return wide_BTD.mean(axis=1).astype(x_BTD.dtype)
        present_BT = ids >= 0
        if pooling == "mean":
            count_B1 = jnp.maximum(present_BT.sum(axis=1, keepdims=True), 1)
            total_BD = jnp.where(present_BT[..., None], wide_BTD, 0).sum(axis=1)
            return (total_BD / count_B1).astype(x_BTD.dtype)
        place_BT = present_BT * jnp.arange(x_BTD.shape[1])
        place_B = present_BT.argmax(axis=1) if pooling == "class_token" else place_BT.max(axis=1)
        return jnp.take_along_axis(x_BTD, place_B[:, None, None], axis=1)[:, 0]
