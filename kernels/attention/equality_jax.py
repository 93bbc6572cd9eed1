"""Attention's test problems through JAX: most tests of equality.py need no JAX."""

import jax
import jax.numpy as jnp
import torch

from kernels.attention import jax_op
from kernels.attention.equality import Case, options_of, sum_dtype
from kernels.jax_arrays import to_jax, to_torch


def through_jax(case: Case) -> tuple[torch.Tensor, ...]:
    """Runs jax_op under jit, on JAX's default device. float64 needs jax_enable_x64."""
    options = options_of(case, jnp.asarray)

    def attention(q, k, v, slopes=None):  # type: ignore[no-untyped-def]
        return jax_op.attention(q, k, v, alibi_slopes=slopes, return_lse=True, **options)

    def step(arrays, grads):  # type: ignore[no-untyped-def]
        results, gradients = jax.vjp(attention, *arrays)
        return *results, *gradients(grads)

    arrays = tuple(to_jax(x) for x in case.differentiable())
    grad_lse = case.grad_lse.to(sum_dtype(case.dtype))
    grads = (to_jax(case.grad_out.to(case.dtype)), to_jax(grad_lse))
    return tuple(to_torch(x) for x in jax.jit(step)(arrays, grads))
