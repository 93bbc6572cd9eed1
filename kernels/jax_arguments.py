"""Checks of the arrays among an operation's arguments."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernels import arguments


def array(name: str, value: Any, *, or_else: str = "") -> jax.Array:
    """Returns an array of JAX from one of JAX or numpy.

    Raises:
      TypeError: it is none.
    """
    if not isinstance(value, (jax.Array, np.ndarray)):
        raise TypeError(f"{name} must be an array{or_else}, got {arguments.given(value)}")
    return jnp.asarray(value)


def real_array(name: str, value: Any, *, or_else: str = "") -> jax.Array:
    """Returns an array of numbers that are neither truth values nor complex.

    Raises:
      TypeError: it is none.
    """
    x = array(name, value, or_else=or_else)
    arguments.real_dtype(name, x.dtype.name)
    return x


def arrays(**values: Any) -> tuple[jax.Array, ...]:
    """Returns arrays by their names.

    Raises:
      TypeError: one is no array.
    """
    return tuple(array(name, value) for name, value in values.items())


def seeds(name: str, value: Any) -> jax.Array:
    """Returns one seed or several, uint32: the low bits of integers, or bits drawn from keys.

    Raises:
      TypeError: it is neither.
    """
    if not isinstance(value, (jax.Array, np.ndarray)):
        accepted = ", an array of integers, a jax.random.key or None"
        return jnp.uint32(arguments.integer(name, value, or_else=accepted) & 0xFFFFFFFF)
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        keys = jnp.asarray(value)
        bits = jax.vmap(lambda key: jax.random.bits(key, dtype=jnp.uint32))(keys.reshape(-1))
        return bits.reshape(keys.shape)
    arguments.integer_dtype(name, value.dtype.name)
    return jnp.asarray(value).astype(jnp.uint32)
