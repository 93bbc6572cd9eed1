"""The network of these tests in Flax; `torch_network.py` is its twin.

Shape suffixes:
  B = batch, T = tokens (seq_len), D = width, V = vocab_size
"""

import jax
import jax.numpy as jnp
from flax import nnx

from kernels.attention.jax_op import attention
from models.context import Context
from models.layers.checkpointing.flax_layer import checkpointed
from models.layers.dropout.flax_layer import dropout, stochastic_depth
from models.layers.linear.flax_layer import Linear
from train.testing.sower.config import SowerConfig


class Block(nnx.Module):
    """Attention of one head; it sows all that there is to sow."""

    def __init__(self, config: SowerConfig):
        self.config = config
        self.qkv = Linear(config.width, 3 * config.width, bias=False)
        self.proj = Linear(config.width, config.width)
        self.gain = nnx.Param(jnp.zeros(config.width))
        self.mean = nnx.BatchStat(jnp.zeros(config.width))

    def __call__(self, x_BTD: jax.Array, context: Context) -> jax.Array:
        q, k, v = jnp.split(self.qkv(x_BTD)[:, :, None], 3, axis=-1)
        y_BTD = self.proj(attention(q, k, v, causal=True)[:, :, 0])
        y_BTD = y_BTD * self.gain[...].astype(y_BTD.dtype)
        wide_BTD = y_BTD.astype(jnp.float32)
        context.sow_loss("size", 0.1 * (wide_BTD**2).mean())
        context.sow_metric("spread", jnp.abs(wide_BTD).mean())
        new = 0.9 * self.mean[...] + 0.1 * wide_BTD.mean(axis=(0, 1))
        context.sown.statistics["block.mean"] = jax.lax.stop_gradient(new)
        y_BTD = y_BTD - self.mean[...].astype(y_BTD.dtype)
        y_BTD = dropout(y_BTD, self.config.dropout_rate, context, "block")
        return x_BTD + stochastic_depth(
            y_BTD, self.config.stochastic_depth_rate, context, "block.depth"
        )


class Sower(nnx.Module):
    """Tokens `[batch, seq_len]` to logits `[batch, seq_len, vocab_size]`."""

    def __init__(self, config: SowerConfig):
        self.tokens = nnx.Param(jnp.zeros((config.vocab_size, config.width)))
        self.block = Block(config)
        self.head = Linear(config.width, config.vocab_size)

    def __call__(self, tokens_BT: jax.Array, context: Context | None = None) -> jax.Array:
        context = context or Context()
        x_BTD = self.tokens[...][tokens_BT]
        x_BTD = x_BTD.astype(context.dtype or x_BTD.dtype)
        x_BTD = checkpointed(self.block, x_BTD, context)
        return self.head(x_BTD).astype(self.tokens.dtype)
