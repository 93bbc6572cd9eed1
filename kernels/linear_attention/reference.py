"""Linear attention, the specification: the quadratic formula in plain numpy and float64.

    A_ij = decay^(i - j) phi(q_i) . phi(k_j)                      for j <= i, or for all j
    numerator_i   = sum_j A_ij v_j + decay^(i + 1) phi(q_i)^T kv
    denominator_i = sum_j A_ij     + decay^(i + 1) phi(q_i) . k_sum
    out_i = numerator_i / (denominator_i + eps), or scale numerator_i unless normalized

where (kv, k_sum) is the initial state. The final state is

    kv <- decay^S kv + sum_j decay^(S - 1 - j) phi(k_j) v_j^T,      k_sum likewise with 1 for v_j.

Where it is not causal, all powers of the decay are 1. Feature maps phi act on each channel:
`identity`, `relu`, and `elu`, which is elu(x) + 1: positive, as Katharopoulos et al. have it.

Shape letters: B batch, S sequence length, H query heads, G key heads, Dk key dimension, Dv value
dimension. Query head h reads key head h // (H // G).

Reference: Katharopoulos et al., "Transformers are RNNs", 2020, arXiv:2006.16236; Sun et al.,
"Retentive Network", 2023, arXiv:2307.08621, for the decay.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.linear_attention.contract import (
    FEATURE_MAPS,
    Extras,
    Options,
    State,
    check_shapes,
    state_shapes,
)

Array = NDArray[np.float64]

_NONE = Extras()


class Gradients(NamedTuple):
    """Gradients with the shapes of the inputs; decay's is [B, H]."""

    q: Array
    k: Array
    v: Array
    decay: Array
    initial_kv: Array
    initial_k_sum: Array


class _Steps(NamedTuple):
    """What the forward pass computes on its way."""

    phi_q: Array  # [B, S, H, Dk].
    phi_k: Array  # [B, S, H, Dk]: repeated for the query heads, as v.
    v: Array  # [B, S, H, Dv].
    decay: Array  # [B, H].
    state: State
    distance: Array  # [S, S], i - j.
    visible: Array  # [S, S], 1 or 0.
    age: Array  # [S]: how often the initial state has decayed where token i reads it.
    rest: Array  # [S]: how often token j decays until the final state.
    length: int  # How often the initial state decays until the final state.
    products: Array  # [B, H, S, S], phi(q_i) . phi(k_j).
    out: Array  # [B, S, H, Dv].
    factor: Array  # [B, S, H]: what the numerator is multiplied by.
    final: State


def forward(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, options: Options, extras: Extras = _NONE
) -> tuple[Array, State]:
    """Returns the output and the final state.

    Args:
      q: [B, S, H, Dk].
      k: [B, S, G, Dk].
      v: [B, S, G, Dv].
      options: see `contract.Options`.
      extras: see `contract.Extras`.

    Returns:
      out [B, S, H, Dv] and a State, float64.

    Raises:
      ValueError: the shapes are not those of a problem of linear attention.
    """
    steps = _steps(q, k, v, options, extras)
    return steps.out, steps.final


def backward(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    grad_out: ArrayLike,
    options: Options,
    extras: Extras = _NONE,
    grad_final: State | None = None,
) -> Gradients:
    """Returns the gradients of sum(grad_out * out) + sum(grad_final * final state)."""
    return _gradients(_steps(q, k, v, options, extras), q, k, grad_out, options, grad_final)


def forward_backward(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    grad_out: ArrayLike,
    options: Options,
    extras: Extras = _NONE,
    grad_final: State | None = None,
) -> tuple[tuple[Array, State], Gradients]:
    """Returns what `forward` and `backward` do, in the time of one of them."""
    steps = _steps(q, k, v, options, extras)
    gradients = _gradients(steps, q, k, grad_out, options, grad_final)
    return (steps.out, steps.final), gradients


def _gradients(
    s: _Steps,
    q: ArrayLike,
    k: ArrayLike,
    grad_out: ArrayLike,
    options: Options,
    grad_final: State | None,
) -> Gradients:
    num_kv_heads = np.shape(k)[2]
    grad_out = np.asarray(grad_out, dtype=np.float64)
    final_kv, final_k = (np.zeros_like(x) for x in s.final) if grad_final is None else grad_final

    grad_num = grad_out * s.factor[..., None]
    grad_den = -np.sum(grad_num * s.out, axis=-1) if options.normalize else np.zeros(s.factor.shape)
    grad_a = np.einsum("bihe,bjhe->bhij", grad_num, s.v) + np.moveaxis(grad_den, 1, 2)[..., None]
    weights, age, rest, length = _powers(s)
    weighted = grad_a * weights
    # Gradients of what the state and a token bring to each other, without their power.
    q_state = np.einsum("bihe,bhde->bihd", grad_num, s.state.kv)
    q_state += np.einsum("bih,bhd->bihd", grad_den, s.state.k_sum)
    k_state = np.einsum("bjhe,bhde->bjhd", s.v, final_kv) + final_k[:, None]

    phi_q = np.einsum("bhij,bjhd->bihd", weighted, s.phi_k) + age[..., None] * q_state
    phi_k = np.einsum("bhij,bihd->bjhd", weighted, s.phi_q) + rest[..., None] * k_state
    grad_v = np.einsum("bhij,bihe->bjhe", s.products * weights, grad_num)
    grad_v += rest[..., None] * np.einsum("bjhd,bhde->bjhe", s.phi_k, final_kv)
    grad_kv = np.einsum("bihd,bihe,bih->bhde", s.phi_q, grad_num, age)
    grad_k_sum = np.einsum("bihd,bih,bih->bhd", s.phi_q, grad_den, age)

    d_weights, d_age, d_rest, d_length = _power_derivatives(s)
    grad_decay = np.einsum("bhij,bhij,bhij->bh", s.products, grad_a, d_weights)
    grad_decay += np.einsum("bihd,bihd,bih->bh", s.phi_q, q_state, d_age)
    grad_decay += np.einsum("bjhd,bjhd,bjh->bh", s.phi_k, k_state, d_rest)
    lost = np.sum(s.state.kv * final_kv, axis=(2, 3)) + np.sum(s.state.k_sum * final_k, axis=2)
    grad_decay += d_length * lost

    q, k = (np.asarray(x, dtype=np.float64) for x in (q, k))
    return Gradients(
        phi_q * _feature_slopes(q, options),
        _sum_groups(phi_k, num_kv_heads) * _feature_slopes(k, options),
        _sum_groups(grad_v, num_kv_heads),
        grad_decay,
        grad_kv + length[..., None, None] * final_kv,
        grad_k_sum + length[..., None] * final_k,
    )


def _steps(q: ArrayLike, k: ArrayLike, v: ArrayLike, options: Options, extras: Extras) -> _Steps:
    q, k, v = (np.asarray(x, dtype=np.float64) for x in (q, k, v))
    sizes = check_shapes(q.shape, k.shape, v.shape)
    decay = np.ones((sizes.batch, sizes.num_heads)) if extras.decay is None else extras.decay
    shapes = state_shapes(sizes)
    given = (extras.initial_kv, extras.initial_k_sum)
    arrays = (np.zeros(s) if x is None else x for x, s in zip(given, shapes, strict=True))
    state = State(*(np.asarray(x, dtype=np.float64) for x in arrays))
    tokens = np.arange(sizes.seq_len, dtype=np.float64)
    distance = tokens[:, None] - tokens[None, :]
    visible = np.where(distance >= 0, 1.0, 0.0) if options.causal else np.ones(distance.shape)
    phi_q = _features(q, options)
    phi_k = _repeat_heads(_features(k, options), sizes.num_heads)
    steps = _Steps(
        phi_q=phi_q,
        phi_k=phi_k,
        v=_repeat_heads(v, sizes.num_heads),
        decay=np.asarray(decay, dtype=np.float64),
        state=state,
        distance=np.maximum(distance, 0) if options.causal else np.zeros_like(distance),
        visible=visible,
        age=tokens + 1 if options.causal else np.zeros_like(tokens),
        rest=tokens[::-1] if options.causal else np.zeros_like(tokens),
        length=sizes.seq_len if options.causal else 0,
        products=np.einsum("bihd,bjhd->bhij", phi_q, phi_k),
        out=np.empty(0),
        factor=np.empty(0),
        final=state,
    )
    return _finish(steps, options)


def _finish(s: _Steps, options: Options) -> _Steps:
    """Fills in the results."""
    weights, age, rest, length = _powers(s)
    scores = s.products * weights
    numerator = np.einsum("bhij,bjhe->bihe", scores, s.v)
    numerator += np.einsum("bihd,bhde,bih->bihe", s.phi_q, s.state.kv, age)
    if options.normalize:
        denominator = np.moveaxis(np.sum(scores, axis=-1), 1, 2)
        denominator = denominator + np.einsum("bihd,bhd,bih->bih", s.phi_q, s.state.k_sum, age)
        factor = 1.0 / (denominator + options.eps)
    else:
        factor = np.full(age.shape, options.scale)
    kv = np.einsum("bjhd,bjhe,bjh->bhde", s.phi_k, s.v, rest)
    k_sum = np.einsum("bjhd,bjh->bhd", s.phi_k, rest)
    final = State(
        length[..., None, None] * s.state.kv + kv, length[..., None] * s.state.k_sum + k_sum
    )
    return s._replace(out=numerator * factor[..., None], factor=factor, final=final)


def _powers(s: _Steps) -> tuple[Array, Array, Array, Array]:
    """Powers of the decay: of the weights [B, H, S, S], age and rest [B, S, H], length [B, H]."""
    return (
        s.visible * s.decay[..., None, None] ** s.distance,
        s.decay[:, None] ** s.age[:, None],
        s.decay[:, None] ** s.rest[:, None],
        s.decay**s.length,
    )


def _power_derivatives(s: _Steps) -> tuple[Array, Array, Array, Array]:
    """The derivatives of `_powers` with respect to the decay."""
    return (
        s.visible * s.distance * s.decay[..., None, None] ** np.maximum(s.distance - 1, 0),
        s.age[:, None] * s.decay[:, None] ** np.maximum(s.age - 1, 0)[:, None],
        s.rest[:, None] * s.decay[:, None] ** np.maximum(s.rest - 1, 0)[:, None],
        s.length * s.decay ** max(s.length - 1, 0),
    )


def _features(x: Array, options: Options) -> Array:
    name = FEATURE_MAPS[options.feature_map]
    if name == "elu":
        return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
    return np.maximum(x, 0) if name == "relu" else x


def _feature_slopes(x: Array, options: Options) -> Array:
    name = FEATURE_MAPS[options.feature_map]
    if name == "elu":
        return np.where(x > 0, 1.0, np.exp(np.minimum(x, 0)))
    return np.where(x > 0, 1.0, 0.0) if name == "relu" else np.ones_like(x)


def _repeat_heads(x: Array, num_heads: int) -> Array:
    """[B, S, G, D] -> [B, S, H, D]."""
    return np.repeat(x, num_heads // x.shape[2], axis=2)


def _sum_groups(x: Array, num_kv_heads: int) -> Array:
    """[B, S, H, D] -> [B, S, G, D]: the inverse of `_repeat_heads` for gradients."""
    batch, seq_len, num_heads, head_dim = x.shape
    groups = (batch, seq_len, num_kv_heads, num_heads // num_kv_heads, head_dim)
    summed: Array = x.reshape(groups).sum(axis=3)
    return summed
