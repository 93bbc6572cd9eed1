"""Gradient checkpointing in JAX; `torch_layer.py` is its twin."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from kernels.jax_derivatives import RESULTS
from models.context import Context, Sown

# What a block is: a function of an array `[batch, ...]` and a context.
Block = Callable[[jax.Array, Context], jax.Array]


def checkpointed(block: Block, x: jax.Array, context: Context) -> jax.Array:
    """Returns `block(x, context)`, of which the way back keeps what `context.checkpointing` says.

    Reference: Chen et al., "Training Deep Nets with Sublinear Memory Cost",
    https://arxiv.org/abs/1604.06174.
    """
    if context.checkpointing == "none" or not context.train:
        return block(x, context)
    policy = _keep_attention if context.checkpointing == "attention" else None

    def run(x: jax.Array) -> tuple[jax.Array, Sown]:
        sown = Sown.nothing()
        return block(x, dataclasses.replace(context, sown=sown)), sown

    y, sown = jax.checkpoint(run, policy=policy)(x)
    context.sown.add(sown)
    return y


def _keep_attention(primitive: Any, *args: Any, **params: Any) -> bool:
    """Keeps what our kernels gave; the way back of both attentions needs no more of them."""
    return primitive is RESULTS
