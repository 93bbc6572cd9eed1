"""Attention's formula in JAX's own operations, for the derivatives that no kernel computes.

It is the specification of `reference.py` line by line, but keeps a matrix of scores.
"""

import jax
import jax.numpy as jnp

from kernels import jax_calls
from kernels.attention.contract import UNBOUNDED, Extras, Options


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, extras: Extras, options: Options
) -> tuple[jax.Array, jax.Array]:
    """Returns out and lse as the native call does.

    Args:
      q: [B, Sq, H, D].
      k: [B, Sk, G, D].
      v: as k.
      extras: see `contract.Extras`.
      options: see `contract.Options`.

    Returns:
      out [B, Sq, H, D] in the dtype of q and lse [B, H, Sq] in the type of the sums.
    """
    sums, dtype = jax_calls.sum_dtype(q), q.dtype
    seq_q, seq_k, group = q.shape[1], k.shape[1], q.shape[2] // k.shape[2]
    seen = _visible(q, k, extras, options)
    # What takes no part may be anything, infinite too: 0 times it is not 0.
    q = jnp.where(seen.any(axis=2)[..., None, None], q.astype(sums), 0.0)
    k, v = (jnp.where(seen.any(axis=1)[..., None, None], x.astype(sums), 0.0) for x in (k, v))
    q = _rotate(q, max(seq_k - seq_q, 0), extras, options)
    k = _rotate(k, max(seq_q - seq_k, 0), extras, options)
    k, v = (jnp.repeat(x, group, axis=2) for x in (k, v))
    scores = options.softmax_scale * _product("bihd,bjhd->bhij", q, k)
    if options.softcap:
        scores = options.softcap * jnp.tanh(scores / options.softcap)
    if extras.alibi_slopes is not None:
        distance = jnp.abs(_distance(seq_q, seq_k))
        scores = scores - extras.alibi_slopes[..., None, None] * distance
    probabilities, lse = _softmax(scores, seen[:, None])
    if options.dropout_rate:
        probabilities = probabilities * _dropout_keep(scores, extras, options)
    out = _product("bhij,bjhd->bihd", probabilities, v)
    # Zeros already, but so the gradient of a row that sees nothing is not looked at.
    return jnp.where(seen.any(axis=2)[..., None, None], out, 0.0).astype(dtype), lse


def _product(subscripts: str, *operands: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, *operands, precision=jax.lax.Precision.HIGHEST)


def _softmax(scores: jax.Array, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Probabilities [B, H, Sq, Sk] and log-sum-exp [B, H, Sq]."""
    maximum = jax.lax.stop_gradient(scores).max(
        axis=-1, keepdims=True, where=seen, initial=-jnp.inf
    )
    sees_any = seen.any(axis=-1, keepdims=True)
    maximum = jnp.where(sees_any, maximum, 0.0)
    # Chosen before and after, for the derivative of what is not chosen is multiplied by 0.
    shifted = jnp.where(seen, scores - maximum, 0.0)
    exponentials = jnp.where(seen, jnp.exp(shifted), 0.0)
    total = jnp.where(sees_any, exponentials.sum(axis=-1, keepdims=True), 1.0)
    lse = jnp.where(sees_any, maximum + jnp.log(total), -jnp.inf)
    return exponentials / total, lse[..., 0]


def _rotate(x: jax.Array, first_row: int, extras: Extras, options: Options) -> jax.Array:
    """Turns the channel pairs of x [B, S, heads, D] by the rows of the tables from first_row on."""
    width = options.rotary_dim
    if not width:
        return x
    cos, sin = (t[first_row : first_row + x.shape[1], None] for t in extras[1:3])
    if options.rotary_interleaved:
        first, second = slice(0, width, 2), slice(1, width, 2)
    else:
        first, second = slice(0, width // 2), slice(width // 2, width)
    turned = x.at[..., first].set(x[..., first] * cos - x[..., second] * sin)
    return turned.at[..., second].set(x[..., first] * sin + x[..., second] * cos)


def _visible(q: jax.Array, k: jax.Array, extras: Extras, options: Options) -> jax.Array:
    """Which query sees which key, [B, Sq, Sk]."""
    distance = _distance(q.shape[1], k.shape[1])
    seen = jnp.ones(distance.shape, bool)
    if options.window_left != UNBOUNDED:
        seen &= distance <= min(options.window_left, q.shape[1] + k.shape[1])
    if options.window_right != UNBOUNDED:
        seen &= -distance <= min(options.window_right, q.shape[1] + k.shape[1])
    seen = jnp.broadcast_to(seen, (q.shape[0], *distance.shape))
    if extras.q_segments is not None:
        queries, keys = extras.q_segments[:, :, None], extras.kv_segments[:, None, :]
        seen &= (queries == keys) & (queries >= 0)
    return seen


def _distance(seq_q: int, seq_k: int) -> jax.Array:
    """Position of query i less that of key j, [Sq, Sk]."""
    return jnp.arange(seq_q)[:, None] + (seq_k - seq_q) - jnp.arange(seq_k)


def _dropout_keep(scores: jax.Array, extras: Extras, options: Options) -> jax.Array:
    """Factors of the probabilities [B, H, Sq, Sk]: 0 where dropped; see dropout.h."""
    _, num_heads, seq_q, seq_k = scores.shape
    golden = jnp.uint32(0x9E3779B9)
    heads, queries, keys = (jnp.arange(n, dtype=jnp.uint32) for n in (num_heads, seq_q, seq_k))
    head_keys = _mix(extras.dropout_seeds[:, None] + (heads + 1) * golden)
    query_keys = _mix(head_keys[..., None] + queries)
    drawn = _mix(query_keys[..., None] ^ _mix((keys + 1) * golden))
    kept = drawn >= jnp.uint32(int(options.dropout_rate * 2**32))
    return kept.astype(scores.dtype) / (1.0 - options.dropout_rate)


def _mix(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
