"""The residual stack in Flax; `torch_network.py` is its twin, line for line.

Shape suffixes:
  B = batch, T = tokens, D = width
"""

import dataclasses
from itertools import accumulate, pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from models.context import Context
from models.layers.activation.flax_layer import ACTIVATIONS
from models.layers.checkpointing.flax_layer import checkpointed
from models.layers.dropout.flax_layer import dropout
from models.layers.embedding.flax_layer import Embedding
from models.layers.head.flax_layer import Head
from models.layers.linear.flax_layer import Linear
from models.layers.norm.flax_layer import Norm
from models.layers.positions.flax_layer import LearnedPositions
from models.mlp.config import MlpConfig
from models.mlp.flax_block import Block


class Mlp(nnx.Module):
    """What `config.input` says, `[batch, ...]`, to what `config.head` says, in float32 or more.

    Computes in `context.dtype`, or in that of its weights. Tokens below 0 are padding, on either
    side; in decoding, it is on the left alone.
    """

    def __init__(self, config: MlpConfig):
        self.config = config
        first, last = config.hidden_sizes[0], config.hidden_sizes[-1]
        self.embedding = Embedding(config.input, first)
        has_class_token = config.head.pooling == "class_token"
        self.class_token = nnx.Param(jnp.zeros(first)) if has_class_token else None
        self.positions = (
            LearnedPositions(config.input.seq_len, first, name="positions")
            if config.positions.learned.enabled
            else None
        )
        self.projections = nnx.List(Linear(*sizes) for sizes in pairwise(config.hidden_sizes))
        self.blocks = nnx.List(
            Block(config, index, width) for index, width in enumerate(config.block_widths)
        )
        self.norm = Norm(config.norm, last) if config.final_norm else None
        self.head = Head(config.head, last, config.num_outputs, name="head")

    def __call__(self, inputs: jax.Array, context: Context | None = None) -> jax.Array:
        context = context or Context()
        if self.config.input.tokens is not None and context.segment_ids is None:
            context = dataclasses.replace(context, segment_ids=jnp.where(inputs < 0, -1, 0))
        x_BTD, context = self._stem(inputs, context)
        ends = accumulate(self.config.blocks_of_stages)
        for stage, end in enumerate(ends):
            if stage:
                x_BTD = self.projections[stage - 1](x_BTD)
                x_BTD = self._activated(x_BTD, context, f"projections.{stage - 1}")
            for index in range(end - self.config.blocks_of_stages[stage], end):
                x_BTD = checkpointed(self.blocks[index], x_BTD, context)
                context.sow_value(f"blocks.{index}", x_BTD)
        x_BTD = x_BTD if self.norm is None else self.norm(x_BTD)
        table = self.embedding.embedding
        return self.head(x_BTD, context, None if table is None else table[...])

    def _stem(self, inputs: jax.Array, context: Context) -> tuple[jax.Array, Context]:
        """Returns the first stage's tokens, and a context that knows of a class token."""
        dtype = jnp.dtype(context.dtype or self.embedding.dtype)
        x_BTD = self._activated(self.embedding(inputs, dtype), context, "embedding")
        if self.positions is not None:
            x_BTD = self.positions(x_BTD, context)
        if self.class_token is not None:
            token_B1D = jnp.broadcast_to(
                self.class_token[...].astype(dtype), (x_BTD.shape[0], 1, x_BTD.shape[2])
            )
            x_BTD, context = _in_front(token_B1D, x_BTD, context)
        x_BTD = dropout(x_BTD, self.config.embedding_dropout_rate, context, "stem")
        context.sow_value("stem", x_BTD)
        return x_BTD, context

    def _activated(self, x_BTD: jax.Array, context: Context, name: str) -> jax.Array:
        """Returns what follows the layer that leads into a stage."""
        x_BTD = ACTIVATIONS[self.config.activation](x_BTD)
        x_BTD = dropout(x_BTD, self.config.dropout_rate, context, name)
        context.sow_value(name, x_BTD)
        return x_BTD


def _in_front(
    token_B1D: jax.Array, x_BTD: jax.Array, context: Context
) -> tuple[jax.Array, Context]:
    """Puts a token right before an example's own; padding on the left stays in front of both."""
    x_BTD, ids_BT = jnp.concatenate((token_B1D, x_BTD), axis=1), context.segment_ids
    if ids_BT is None:
        return x_BTD, context
    padding_B1 = jnp.cumprod(ids_BT < 0, axis=1, dtype=jnp.int32).sum(axis=1, keepdims=True)
    place_T = jnp.arange(x_BTD.shape[1])
    source_BT = jnp.where(place_T < padding_B1, place_T + 1, place_T)
    source_BT = jnp.where(place_T == padding_B1, 0, source_BT)
    ids_BT = jnp.take_along_axis(jnp.pad(ids_BT, ((0, 0), (1, 0))), source_BT, axis=1)
    x_BTD = jnp.take_along_axis(x_BTD, source_BT[..., None], axis=1)
    return x_BTD, dataclasses.replace(context, segment_ids=ids_BT)
