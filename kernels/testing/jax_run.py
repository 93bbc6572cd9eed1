"""Cases of an operation through JAX: most tests need no JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from kernels.testing.accuracy import Case, in_its_dtypes
from kernels.testing.arrays import to_numpy, to_tensor


def through_jax(case: Case, operation: Callable[..., Any]) -> dict[str, torch.Tensor]:
    """Returns the results and gradients of a function of `jax_op` under jit.

    It runs on JAX's default device. float64 needs jax_enable_x64.
    """

    def call(inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return case.call(operation, jnp.asarray, **inputs)

    @jax.jit
    def step(
        inputs: dict[str, jax.Array], cotangents: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        results, pull = jax.vjp(call, inputs)
        (gradients,) = pull(cotangents)
        return results | {f"grad_{name}": x for name, x in gradients.items()}

    inputs, cotangents = (
        {name: to_jax(x) for name, x in tensors.items()} for tensors in in_its_dtypes(case)
    )
    return {name: to_torch(x) for name, x in step(inputs, cotangents).items()}


def to_jax(x: torch.Tensor) -> jax.Array:
    """Returns the values on JAX's default device, in the tensor's dtype."""
    return jnp.asarray(to_numpy(x))


def to_torch(x: jax.Array) -> torch.Tensor:
    """Returns the values on the CPU, in the array's dtype."""
    return to_tensor(np.array(x))
