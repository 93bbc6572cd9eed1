"""Linear attention's test problems through JAX: most tests of equality.py need no JAX."""

from collections.abc import Sequence

import jax
import torch

from kernels.jax_arrays import to_jax, to_torch
from kernels.linear_attention import jax_op
from kernels.linear_attention.contract import State
from kernels.linear_attention.equality import Features


def through_jax(
    inputs: Sequence[torch.Tensor | None], grads: Sequence[torch.Tensor | None], features: Features
) -> list[torch.Tensor | None]:
    """Runs jax_op under jit, on JAX's default device. float64 needs jax_enable_x64."""

    def run(q, k, v, decay, kv, k_sum):  # type: ignore[no-untyped-def]
        initial = State(kv, k_sum) if features.state else None
        results = jax_op.linear_attention(
            q, k, v, decay=decay, initial_state=initial, **features.arguments()
        )
        return (results[0], *results[1]) if features.state else (results, None, None)

    @jax.jit
    def step(arrays, cotangents):  # type: ignore[no-untyped-def]
        results, gradients = jax.vjp(run, *arrays)
        return *results, *gradients(cotangents)

    arrays = [None if x is None else to_jax(x) for x in inputs]
    found = step(arrays, tuple(None if g is None else to_jax(g) for g in grads))
    device = next(x for x in inputs if x is not None).device
    return [None if x is None else to_torch(x).to(device) for x in found]
