"""Linear attention's formula in JAX's own operations, for derivatives that no kernel computes.

It is the specification of `reference.py` line by line, quadratic in the length.
"""

import jax
import jax.numpy as jnp

from kernels import jax_calls
from kernels.linear_attention.contract import FEATURE_MAPS, Extras, Options


def linear_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, extras: Extras, options: Options
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the output and the final state.

    Args:
      q: [B, S, H, Dk].
      k: [B, S, G, Dk].
      v: [B, S, G, Dv].
      extras: see `contract.Extras`.
      options: see `contract.Options`.

    Returns:
      out [B, S, H, Dv] in the dtype of q; kv [B, H, Dk, Dv] and k_sum [B, H, Dk] in the type of the
      sums.
    """
    sums, dtype = jax_calls.sum_dtype(q), q.dtype
    q, k, v = (x.astype(sums) for x in (q, k, v))
    batch, _, num_heads, key_dim = q.shape
    group = num_heads // k.shape[2]
    phi_q = _features(q, options)
    phi_k = jnp.repeat(_features(k, options), group, axis=2)
    v = jnp.repeat(v, group, axis=2)
    initial_kv, initial_k_sum = extras.initial_kv, extras.initial_k_sum
    if initial_kv is None:
        initial_kv = jnp.zeros((batch, num_heads, key_dim, v.shape[3]), sums)
        initial_k_sum = jnp.zeros((batch, num_heads, key_dim), sums)
    weights, age, rest, length = _powers(q, extras.decay, options)

    scores = _product("bihd,bjhd->bhij", phi_q, phi_k) * weights
    numerator = _product("bhij,bjhe->bihe", scores, v)
    numerator += _product("bihd,bhde,bih->bihe", phi_q, initial_kv, age)
    if options.normalize:
        denominator = _product("bhij->bih", scores)
        denominator += _product("bihd,bhd,bih->bih", phi_q, initial_k_sum, age)
        out = numerator / (denominator + options.eps)[..., None]
    else:
        out = options.scale * numerator
    kv = _product("bjhd,bjhe,bjh->bhde", phi_k, v, rest)
    k_sum = _product("bjhd,bjh->bhd", phi_k, rest)
    kv += length[..., None, None] * initial_kv
    return out.astype(dtype), kv, k_sum + length[..., None] * initial_k_sum


def _product(subscripts: str, *operands: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, *operands, precision=jax.lax.Precision.HIGHEST)


def _powers(q: jax.Array, decay: jax.Array | None, options: Options) -> tuple[jax.Array, ...]:
    """Powers of the decay.

    Returns:
      What weighs a token for a query [B, H, S, S], the initial state for a query and a token for
      the final state [B, S, H], the initial state for the final one [B, H].
    """
    batch, seq_len, num_heads, _ = q.shape
    tokens = jnp.arange(seq_len)
    distance = tokens[:, None] - tokens
    visible = distance >= 0 if options.causal else jnp.ones(distance.shape, bool)
    if decay is None:
        weights = jnp.broadcast_to(visible, (batch, num_heads, seq_len, seq_len)).astype(q.dtype)
        ones = jnp.ones((batch, seq_len, num_heads), q.dtype)
        return weights, ones, ones, jnp.ones((batch, num_heads), q.dtype)
    powers = decay[..., None, None] ** jnp.maximum(distance, 0)
    return (
        jnp.where(visible, powers, 0.0),
        decay[:, None] ** (tokens + 1)[:, None],
        decay[:, None] ** tokens[::-1, None],
        decay**seq_len,
    )


def _features(x: jax.Array, options: Options) -> jax.Array:
    name = FEATURE_MAPS[options.feature_map]
    if name == "elu":
        # Not jnp.minimum, whose derivative at 0 is a half.
        return jnp.where(x > 0, x + 1, jnp.exp(jnp.where(x > 0, 0.0, x)))
    return jax.nn.relu(x) if name == "relu" else x
