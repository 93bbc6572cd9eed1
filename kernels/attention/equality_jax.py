"""Attention's test problems through JAX: most tests of equality.py need no JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from kernels.attention import jax_op
from kernels.attention.equality import Case, options_of, sum_dtype


def through_jax(case: Case) -> tuple[torch.Tensor, ...]:
    """Runs jax_op under jit, on JAX's default device. float64 needs jax_enable_x64."""
    options = options_of(case, jnp.asarray)

    def attention(q, k, v, slopes=None):  # type: ignore[no-untyped-def]
        return jax_op.attention(q, k, v, alibi_slopes=slopes, return_lse=True, **options)

    def step(arrays, grads):  # type: ignore[no-untyped-def]
        results, gradients = jax.vjp(attention, *arrays)
        return *results, *gradients(grads)

    arrays = tuple(_to_jax(x) for x in case.differentiable())
    grad_lse = case.grad_lse.to(sum_dtype(case.dtype))
    grads = (_to_jax(case.grad_out.to(case.dtype)), _to_jax(grad_lse))
    return tuple(_to_torch(x) for x in jax.jit(step)(arrays, grads))


def _to_jax(x: torch.Tensor) -> jax.Array:
    # Through float32, which holds every bfloat16, because numpy has none of its own.
    wide = x.float() if x.dtype == torch.bfloat16 else x
    return jnp.asarray(wide.cpu().numpy(), dtype=str(x.dtype).removeprefix("torch."))


def _to_torch(x: jax.Array) -> torch.Tensor:
    wide = x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x
    return torch.from_numpy(np.array(wide)).to(getattr(torch, x.dtype.name))
