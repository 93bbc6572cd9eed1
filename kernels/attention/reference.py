"""Attention, the specification: plain numpy in float64, forward and backward.

    q', k' = rope(q), rope(k)                        rotated by their positions
    x = softmax_scale * q' k'^T
    scores = softcap * tanh(x / softcap) - slope * |distance|
    P = softmax(scores) over the keys that the query sees
    out = (keep * P / (1 - dropout_rate)) v

Query i stands at position i + Sk - Sq and key j at position j (aligned to the bottom right: the
last query is as far as the last key); distance is the difference of positions. A query sees the
keys of its window and of its segment. A query that sees no key gives zeros and takes part in no
gradient. What is not seen is not there: an infinity or NaN in it shows nowhere.

Shape letters: B batch, Sq and Sk sequence lengths, H query heads, G key heads, D head dimension.
Query head h reads key head h // (H // G).

Reference: Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, equation 1; Ainslie
et al., "GQA", 2023, arXiv:2305.13245; Su et al., "RoFormer", 2021, arXiv:2104.09864; Press et al.,
"Train Short, Test Long" (ALiBi), 2021, arXiv:2108.12409; softcap as in "Gemma 2", 2024,
arXiv:2408.00118.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.attention.contract import UNBOUNDED, Extras, Options, check_shapes

Array = NDArray[np.float64]

# No array besides q, k and v.
NONE = Extras()


class Gradients(NamedTuple):
    """Gradients with the shapes of q, k and v; slopes [B, H], zeros without ALiBi."""

    q: Array
    k: Array
    v: Array
    slopes: Array


class _Steps(NamedTuple):
    """What the forward pass computes on its way, [B, H, Sq, Sk] unless stated."""

    q: Array  # Rotated, [B, Sq, H, D].
    k: Array  # Rotated, [B, Sk, G, D].
    cap_slope: Array  # Derivative of the softcap.
    distance: Array  # [Sq, Sk].
    probabilities: Array
    keep: Array  # 0, or 1 / (1 - dropout_rate).
    lse: Array  # [B, H, Sq].
    seen: NDArray[np.bool_]  # [B, 1, Sq, Sk].


def forward(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, options: Options, extras: Extras = NONE
) -> tuple[Array, Array]:
    """Returns the output and the log-sum-exp of the scores.

    Args:
      q: [B, Sq, H, D].
      k: [B, Sk, G, D].
      v: [B, Sk, G, D].
      options: see `contract.Options`.
      extras: see `contract.Extras`.

    Returns:
      out [B, Sq, H, D] and lse [B, H, Sq], float64; lse is -inf where a query sees no key.

    Raises:
      ValueError: the shapes are not those of an attention problem.
    """
    return _results(_steps(q, k, options, extras), np.asarray(v, dtype=np.float64))


def backward(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    grad_out: ArrayLike,
    options: Options,
    extras: Extras = NONE,
    grad_lse: ArrayLike = 0.0,
) -> Gradients:
    """Returns the gradients of sum(grad_out * out) + sum(grad_lse * lse)."""
    v, grad_out = (np.asarray(x, dtype=np.float64) for x in (v, grad_out))
    return _gradients(_steps(q, k, options, extras), v, grad_out, options, extras, grad_lse)


def forward_backward(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    grad_out: ArrayLike,
    options: Options,
    extras: Extras = NONE,
    grad_lse: ArrayLike = 0.0,
) -> tuple[tuple[Array, Array], Gradients]:
    """Returns what `forward` and `backward` do, in the time of one of them."""
    v, grad_out = (np.asarray(x, dtype=np.float64) for x in (v, grad_out))
    steps = _steps(q, k, options, extras)
    return _results(steps, v), _gradients(steps, v, grad_out, options, extras, grad_lse)


def _results(s: _Steps, v: Array) -> tuple[Array, Array]:
    """Out and lse."""
    dropped = s.keep * s.probabilities
    return _sum_seen(dropped, _repeat_heads(v, s.q.shape[2]), s.seen), s.lse


def _gradients(
    s: _Steps, v: Array, grad_out: Array, options: Options, extras: Extras, grad_lse: ArrayLike
) -> Gradients:
    """With dP = keep * (grad_out v^T), dS = P * (dP - rowsum(P * dP) + grad_lse) by the softmax."""
    grad_lse = np.broadcast_to(np.asarray(grad_lse, dtype=np.float64), s.lse.shape)
    num_heads, num_kv_heads = s.q.shape[2], s.k.shape[2]
    grad_p = s.keep * np.einsum("bihd,bjhd->bhij", grad_out, _repeat_heads(v, num_heads))
    grad_p = np.where(s.seen, grad_p, 0.0)
    row_sums = np.sum(s.probabilities * grad_p, axis=-1, keepdims=True)
    grad_scores = s.probabilities * (grad_p - row_sums + grad_lse[..., None])
    grad_scores = np.where(s.seen, grad_scores, 0.0)
    grad_slopes = -np.einsum("bhij,ij->bh", grad_scores, np.abs(s.distance))
    grad_x = options.softmax_scale * np.where(s.seen, s.cap_slope, 0.0) * grad_scores
    grad_q = _sum_seen(grad_x, _repeat_heads(s.k, num_heads), s.seen)
    dropped, seen_by = (s.keep * s.probabilities).swapaxes(2, 3), s.seen.swapaxes(2, 3)
    grad_k = _sum_seen(grad_x.swapaxes(2, 3), s.q, seen_by)
    grad_v = _sum_seen(dropped, grad_out, seen_by)
    lengths = grad_q.shape[1], grad_k.shape[1]
    return Gradients(
        rotate(grad_q, _first_row(*lengths), options, extras, inverse=True),
        rotate(
            _sum_groups(grad_k, num_kv_heads), _first_row(*lengths[::-1]), options, extras, True
        ),
        _sum_groups(grad_v, num_kv_heads),
        grad_slopes if extras.alibi_slopes is not None else np.zeros_like(grad_slopes),
    )


def _sum_seen(weights: Array, rows: Array, seen: NDArray[np.bool_]) -> Array:
    """The sum over j of weights [B, H, I, J] times the rows [B, J, H, D] seen: [B, I, H, D]."""
    finite = np.isfinite(rows)
    total: Array = np.einsum("bhij,bjhd->bihd", weights, np.where(finite, rows, 0.0))
    # The others one by one: 0 times infinity is not 0.
    for j in np.flatnonzero(~finite.all(axis=(0, 2, 3))):
        odd_ones = np.where(finite[:, j], 0.0, rows[:, j])
        terms = weights[..., j, None] * odd_ones[:, :, None]
        total += np.where(seen[..., j, None], terms, 0.0).swapaxes(1, 2)
    return total


def rotate(
    x: Array, first_row: int, options: Options, extras: Extras, inverse: bool = False
) -> Array:
    """Turns the channel pairs of x [B, S, heads, D] by the rows of the tables from first_row on."""
    half = options.rotary_dim // 2
    if not half:
        return x
    rows = slice(first_row, first_row + x.shape[1])
    cos = np.asarray(extras.rope_cos, dtype=np.float64)[rows, None]
    sin = np.asarray(extras.rope_sin, dtype=np.float64)[rows, None] * (-1 if inverse else 1)
    if options.rotary_interleaved:
        first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    else:
        first, second = slice(0, half), slice(half, 2 * half)
    turned = x.copy()
    turned[..., first] = x[..., first] * cos - x[..., second] * sin
    turned[..., second] = x[..., first] * sin + x[..., second] * cos
    return turned


def visible(sizes: tuple[int, int, int], options: Options, extras: Extras) -> NDArray[np.bool_]:
    """Which query sees which key, [B, Sq, Sk], for sizes (B, Sq, Sk)."""
    batch, seq_q, seq_k = sizes
    ahead = -_distance(seq_q, seq_k)
    seen = np.ones((batch, seq_q, seq_k), dtype=bool)
    if options.window_left != UNBOUNDED:
        seen &= ahead >= -options.window_left
    if options.window_right != UNBOUNDED:
        seen &= ahead <= options.window_right
    if extras.q_segments is not None:
        q_segments = np.asarray(extras.q_segments)[:, :, None]
        seen &= (q_segments == np.asarray(extras.kv_segments)[:, None, :]) & (q_segments >= 0)
    return seen


def dropout_keep(shape: tuple[int, int, int, int], options: Options, extras: Extras) -> Array:
    """Factors of the probabilities [B, H, Sq, Sk]: 0 where dropped; see dropout.h."""
    if options.dropout_rate == 0:
        return np.ones(shape)
    _, num_heads, seq_q, seq_k = shape
    golden, bits = np.uint64(0x9E3779B9), np.uint64(0xFFFFFFFF)
    seeds = np.asarray(extras.dropout_seeds).astype(np.int64).astype(np.uint64) & bits
    heads = np.arange(1, num_heads + 1, dtype=np.uint64) * golden
    keys = _mix(np.arange(1, seq_k + 1, dtype=np.uint64) * golden)
    head_keys = _mix(seeds[:, None] + heads)
    query_keys = _mix(head_keys[..., None] + np.arange(seq_q, dtype=np.uint64))
    drawn = _mix(query_keys[..., None] ^ keys)
    threshold = int(options.dropout_rate * 2**32)
    return np.where(drawn < threshold, 0.0, 1.0 / (1.0 - options.dropout_rate))


def _mix(x: NDArray[Any]) -> NDArray[Any]:
    bits = np.uint64(0xFFFFFFFF)
    x = x & bits
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x7FEB352D)) & bits
    x = ((x ^ (x >> np.uint64(15))) * np.uint64(0x846CA68B)) & bits
    return x ^ (x >> np.uint64(16))


def _distance(seq_q: int, seq_k: int) -> Array:
    """Position of query i less that of key j, [Sq, Sk]."""
    return np.arange(seq_q)[:, None] + (seq_k - seq_q) - np.arange(seq_k, dtype=np.float64)[None]


def _first_row(seq_len: int, other: int) -> int:
    """The row of RoPE's tables of the first of seq_len queries (or keys), beside `other` keys."""
    return max(other - seq_len, 0)


def _steps(q: ArrayLike, k: ArrayLike, options: Options, extras: Extras) -> _Steps:
    q, k = (np.asarray(x, dtype=np.float64) for x in (q, k))
    sizes = check_shapes(q.shape, k.shape, k.shape)
    q = rotate(q, _first_row(sizes.seq_q, sizes.seq_k), options, extras)
    k = rotate(k, _first_row(sizes.seq_k, sizes.seq_q), options, extras)
    scores = options.softmax_scale * np.einsum("bihd,bjhd->bhij", q, _repeat_heads(k, q.shape[2]))
    cap_slope = np.ones_like(scores)
    if options.softcap:
        scores = np.tanh(scores / options.softcap)
        cap_slope = 1 - scores**2
        scores = options.softcap * scores
    distance = _distance(sizes.seq_q, sizes.seq_k)
    if extras.alibi_slopes is not None:
        slopes = np.asarray(extras.alibi_slopes, dtype=np.float64)
        scores = scores - slopes[..., None, None] * np.abs(distance)
    seen = visible(sizes[:3], options, extras)[:, None]
    probabilities, lse = _softmax(scores, np.broadcast_to(seen, scores.shape))
    keep = dropout_keep(scores.shape, options, extras)
    return _Steps(q, k, cap_slope, distance, probabilities, keep, lse, seen)


def _softmax(scores: Array, seen: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Probabilities [B, H, Sq, Sk] and log-sum-exp [B, H, Sq]."""
    maximum = np.max(scores, axis=-1, keepdims=True, initial=-np.inf, where=seen)
    exponentials = np.zeros_like(scores)
    np.exp(scores - maximum, out=exponentials, where=seen)
    total = np.sum(exponentials, axis=-1, keepdims=True)
    sees_any = np.any(seen, axis=-1, keepdims=True)
    probabilities = np.where(seen, exponentials / np.where(sees_any, total, 1.0), 0.0)
    lse = np.where(sees_any, maximum + np.log(np.where(sees_any, total, 1.0)), -np.inf)
    return probabilities, lse[..., 0]


def _repeat_heads(x: Array, num_heads: int) -> Array:
    """[B, S, G, D] -> [B, S, H, D]."""
    return np.repeat(x, num_heads // x.shape[2], axis=2)


def _sum_groups(x: Array, num_kv_heads: int) -> Array:
    """[B, S, H, D] -> [B, S, G, D]: the inverse of `_repeat_heads` for gradients."""
    batch, seq_len, num_heads, head_dim = x.shape
    groups = (batch, seq_len, num_kv_heads, num_heads // num_kv_heads, head_dim)
    summed: Array = x.reshape(groups).sum(axis=3)
    return summed
