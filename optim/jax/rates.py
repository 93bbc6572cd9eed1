"""The learning rate of a step: a number, or what a schedule makes of the updates made."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optim.algorithm import Algorithm


def rate_at(
    algorithm: Algorithm, learning_rate: optax.ScalarOrSchedule | None, count: jax.Array
) -> jax.typing.ArrayLike:
    """Returns the learning rate after `count` updates.

    Args:
      algorithm: Whose own rate holds if there is no other.
      learning_rate: As of `optim.jax.transformation`.
      count: int32 [].

    Raises:
      ValueError: It is no real number, or negative or not finite. Under jit values are not known
        and not checked.
    """
    rate = algorithm.learning_rate if learning_rate is None else learning_rate
    return checked(rate(count) if callable(rate) else rate)


def checked(rate: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
    """Returns a learning rate that is one; raises as `rate_at`."""
    if not _is_real(rate) or math.prod(np.shape(rate)) != 1:
        raise ValueError(f"expected one real number as learning_rate, got {rate!r}")
    if not isinstance(rate, jax.core.Tracer) and not 0.0 <= _as_float(rate) < math.inf:
        raise ValueError(f"expected a learning_rate from 0 up and finite, got {_as_float(rate)}")
    return rate if np.ndim(rate) == 0 else jnp.reshape(rate, ())


def _is_real(rate: object) -> bool:
    if isinstance(rate, np.generic | np.ndarray | jax.Array):
        return jnp.issubdtype(rate.dtype, jnp.floating) or jnp.issubdtype(rate.dtype, jnp.integer)
    return isinstance(rate, int | float) and not isinstance(rate, bool)


def _as_float(rate: jax.typing.ArrayLike) -> float:
    try:
        return float(np.ravel(rate)[0])
    except OverflowError:  # an integer of Python's
        return math.inf
