"""Gradient checkpointing in JAX; `torch_layer.py` is its twin."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

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

    def run(x: jax.Array) -> tuple[jax.Array, Sown]:
        sown = Sown.nothing()
        return block(x, dataclasses.replace(context, sown=sown)), sown

    traced, shapes = jax.make_jaxpr(run, return_shape=True)(x)
    policy = _keep_attention if context.checkpointing == "attention" else None
    outputs = _in_turn(_Run(traced.jaxpr), policy, traced.consts, x)
    y, sown = jax.tree.unflatten(jax.tree.structure(shapes), outputs)
    context.sown.add(sown)
    return y


class _Run:
    """A block as a function of all that it closes over, and of its input."""

    def __init__(self, jaxpr: Jaxpr):
        inputs = [*jaxpr.constvars, *jaxpr.invars]
        self._run = jaxpr_as_fun(ClosedJaxpr(jaxpr.replace(constvars=(), invars=inputs), ()))

    def __call__(self, *inputs: jax.Array) -> list[jax.Array]:
        return self._run(*inputs)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _in_turn(run: _Run, policy: Any, consts: list[jax.Array], x: jax.Array) -> list[jax.Array]:
    return run(*consts, x)


def _forward(run: _Run, policy: Any, consts: list[jax.Array], x: jax.Array) -> Any:
    weights = {i: c for i, c in enumerate(consts) if jnp.issubdtype(c.dtype, jnp.inexact)}

    def of_weights(weights: dict[int, jax.Array], x: jax.Array) -> list[jax.Array]:
        return run(*(weights.get(i, c) for i, c in enumerate(consts)), x)

    outputs, pull = jax.vjp(jax.checkpoint(of_weights, policy=policy), weights, x)
    return outputs, (pull, len(consts))


def _backward(run: _Run, policy: Any, kept: Any, cotangents: list[jax.Array]) -> Any:
    """Goes the way back of a block, which computes it again.

    On a CPU, XLA forgets the barriers of `jax.checkpoint` before it orders the work. It would
    compute a block again right after the first time, and keep all of it. So the input is made to
    depend on the gradient of the output: it is what it was, unless that is not a number already.
    """
    pull, num_consts = kept
    weights, x = pull.args_res
    if isinstance(x, jax.Array):  # else the block is linear, and nothing is computed again
        pull.args_res = [weights, jnp.where(jnp.isnan(cotangents[0].ravel()[0]), jnp.nan, x)]
    grads, of_x = pull(cotangents)
    return [grads.get(i) for i in range(num_consts)], of_x


_in_turn.defvjp(_forward, _backward)


def _keep_attention(primitive: Any, *args: Any, **params: Any) -> bool:
    """Keeps what our kernels gave; the way back of both attentions needs no more of them."""
    return primitive is RESULTS
