"""Reversible stages in JAX; `torch_layer.py` is its twin.

Channels are two halves, and each branch adds to one of them what it computes from the other, in
turn. So from what comes out follows what went in, and the way back needs to keep nothing else: the
memory of activations does not grow with the number of branches.

Reference: Gomez et al., "The Reversible Residual Network: Backpropagation Without Storing
Activations", https://arxiv.org/abs/1707.04585.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from models.context import Context, Sown

# Fields of a context that may be traced.
_TRACED = ("seeds", "dropout_scale", "stochastic_depth_scale", "segment_ids")

_Halves = tuple[jax.Array, jax.Array]
_Losses = dict[str, list[jax.Array]]


def reversible(branches: Sequence[nnx.Module], x: jax.Array, context: Context) -> jax.Array:
    """Runs branches in turn over the halves of the channels of `x [batch, ..., channels]`.

    The halves are float32 or more, whatever the dtype that branches compute in, since they are
    found again by subtraction. What branches sow counts once; of it losses have gradients. Within
    a branch nothing is checkpointed.

    Args:
        branches: Modules of an array and a context, `[batch, ..., channels / 2]` to the same. The
            first adds to the first half what it makes of the second.
        x: Of an even number of channels.
        context: Of the pass.
    """
    graphs, states = zip(*map(nnx.split, branches), strict=True)
    traced = {name: getattr(context, name) for name in _TRACED}
    left_out: dict[str, Any] = dict.fromkeys(_TRACED)
    untraced = dataclasses.replace(context, checkpointing="none", sown=Sown.nothing(), **left_out)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    first, second = jnp.split(wide, 2, axis=-1)
    static = _Branches(graphs, untraced, x.dtype)
    halves, losses, others = _coupled(static, states, traced, (first, second))
    for told, rest in zip(losses, others, strict=True):
        context.sown.add(rest._replace(losses=told))
    return jnp.concatenate(halves, axis=-1).astype(x.dtype)


class _Branches(NamedTuple):
    """What is known of the branches before anything is traced."""

    graphs: tuple[nnx.GraphDef[nnx.Module], ...]
    context: Context
    dtype: Any

    def run(
        self, index: int, state: Any, half: jax.Array, traced: dict[str, Any]
    ) -> tuple[tuple[jax.Array, _Losses], Sown]:
        """Returns what a branch adds to the other half, the losses that it sows, and the rest."""
        context = dataclasses.replace(self.context, sown=Sown.nothing(), **traced)
        branch: Any = nnx.merge(self.graphs[index], state)
        added = branch(half.astype(self.dtype), context).astype(half.dtype)
        return (added, context.sown.losses), context.sown._replace(losses={})


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _coupled(
    branches: _Branches, states: tuple[Any, ...], traced: dict[str, Any], inputs: _Halves
) -> tuple[_Halves, list[_Losses], list[Sown]]:
    halves, losses, others = list(inputs), [], []
    for index, state in enumerate(states):
        to, of = index % 2, 1 - index % 2
        (added, told), rest = branches.run(index, state, halves[of], traced)
        halves[to] = halves[to] + added
        losses.append(told)
        others.append(rest)
    return (halves[0], halves[1]), losses, others


def _forward(branches: _Branches, states: Any, traced: dict[str, Any], inputs: _Halves) -> Any:
    outputs = _coupled(branches, states, traced, inputs)
    return outputs, (states, traced, outputs[0])


def _backward(branches: _Branches, kept: Any, cotangents: Any) -> Any:
    states, traced, halves = kept
    halves, (grads, losses, _) = list(halves), cotangents
    grads, of_states = list(grads), [None] * len(states)
    for index in reversed(range(len(states))):
        to, of = index % 2, 1 - index % 2
        # Else XLA might invert all branches first, and keep what each computed on the way.
        halves, grads = jax.lax.optimization_barrier((halves, grads))
        branch: Any = partial(branches.run, index, traced=traced)
        (added, _), pull, _ = jax.vjp(branch, states[index], halves[of], has_aux=True)
        halves[to] = halves[to] - added
        of_states[index], of_half = pull((grads[to], losses[index]))
        grads[of] = grads[of] + of_half
    return tuple(of_states), None, (grads[0], grads[1])


_coupled.defvjp(_forward, _backward)
