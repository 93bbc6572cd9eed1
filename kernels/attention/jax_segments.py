"""Segment ids of any integer type as the int32 that attention's kernels compare, for JAX."""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

_LARGEST = np.iinfo(np.int32).max
_NARROW = ("int8", "int16", "int32", "uint8", "uint16")

_Ids: TypeAlias = jax.Array | np.ndarray


def narrow(q_ids: _Ids, kv_ids: _Ids) -> tuple[jax.Array, jax.Array]:
    """Returns int32 ids that group queries and keys as the given ones do.

    Ids beyond 31 bits are numbered anew, by a sort, where there are some. Those of numpy arrays are
    seen as they are, also without jax_enable_x64.

    Args:
      q_ids: [batch, seq_q] integers; those below 0 are padding.
      kv_ids: [batch, seq_k], the same.

    Raises:
      ValueError: without jax_enable_x64, one is a numpy array with ids that need it, and the other
        is not.
    """
    if all(x.dtype.name in _NARROW for x in (q_ids, kv_ids)):
        return jnp.asarray(q_ids, jnp.int32), jnp.asarray(kv_ids, jnp.int32)
    if isinstance(q_ids, np.ndarray) and isinstance(kv_ids, np.ndarray):
        ids = _narrow(np, q_ids, kv_ids, lambda fits, *ways: ways[0 if fits else 1]())
    else:
        ids = _narrow(jnp, _as_jax(q_ids), _as_jax(kv_ids), jax.lax.cond)
    return jnp.asarray(ids[:, : q_ids.shape[1]]), jnp.asarray(ids[:, q_ids.shape[1] :])


def _as_jax(ids: _Ids) -> jax.Array:
    if isinstance(ids, np.ndarray):
        ids = np.maximum(ids, -1, dtype=ids.dtype) if ids.dtype.kind == "i" else ids
    array = jnp.asarray(ids)
    if isinstance(ids, np.ndarray) and array.dtype != ids.dtype and np.any(ids > _LARGEST):
        raise ValueError(
            f"segment_ids up to {ids.max()} need jax_enable_x64, or numpy arrays for both queries "
            "and keys"
        )
    return array


def _narrow(np_or_jnp: Any, q_ids: Any, kv_ids: Any, choose: Any) -> Any:
    """Both in one array; choose(predicate, if_true, if_false)."""
    xp = np_or_jnp
    # Bits of unsigned ids from the middle on look negative, and are not padding.
    widest = max(q_ids.dtype.itemsize, kv_ids.dtype.itemsize)
    kind = xp.int64 if widest == 8 else xp.int32
    bits = xp.concatenate([x.astype(kind) for x in (q_ids, kv_ids)], axis=1)
    padding = xp.concatenate([x < 0 for x in (q_ids, kv_ids)], axis=1)
    fits = xp.all(padding | ((bits >= 0) & (bits <= _LARGEST)))

    def as_they_are() -> Any:
        return bits.astype(xp.int32)

    def numbered_anew() -> Any:
        return _ranks(xp, bits).astype(xp.int32)

    return xp.where(padding, xp.int32(-1), choose(fits, as_they_are, numbered_anew))


def _ranks(xp: Any, ids: Any) -> Any:
    """The rank of each id among the different ones of its row."""
    order = xp.argsort(ids, axis=1)
    ordered = xp.take_along_axis(ids, order, axis=1)
    steps = ordered[:, 1:] != ordered[:, :-1]
    rank = xp.pad(xp.cumsum(steps, axis=1), ((0, 0), (1, 0)))[:, : ids.shape[1]]
    # The inverse of a permutation is what sorts it.
    return xp.take_along_axis(rank, xp.argsort(order, axis=1), axis=1)
