"""`comm.compression.quantization_seed` for steps and ranks that are traced."""

import jax
import jax.numpy as jnp

from comm.compression import Compression

_GOLDEN_RATIO = 0x9E3779B9


def quantization_seed(
    compression: Compression, step: int | jax.Array, hop: int, rank: int | jax.Array
) -> jax.Array:
    """Returns the seed of one quantization, a uint32 scalar.

    Args:
        compression: Whose seed counts.
        step: Of training, counted from 0; as rank, may be traced.
        hop: 0 before values are sent to the rank that sums them, 1 after.
        rank: Who quantizes, of hop 0; of hop 1 always 0.
    """
    seed = jnp.uint32(0)
    for part in (compression.seed, step, hop, rank):
        seed = _mix(seed + jnp.uint32(_GOLDEN_RATIO) * (_low_bits(part) + jnp.uint32(1)))
    return seed


def _low_bits(part: int | jax.Array) -> jax.Array:
    return jnp.uint32(part & 0xFFFFFFFF) if isinstance(part, int) else part.astype(jnp.uint32)


def _mix(x: jax.Array) -> jax.Array:
    """lowbias32 of Wellons, "Prospecting for Hash Functions", 2018."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
