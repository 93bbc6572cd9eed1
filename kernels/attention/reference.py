"""Attention, the specification: plain numpy in float64, forward and backward.

    scores = softmax_scale * q k^T        P = softmax(scores)        out = P v

Query i sees the keys j <= i + Sk - Sq when `causal` (aligned to the bottom right: the last query
sees all keys). A query that sees no key gives zeros and takes part in no gradient.

Shape letters: B batch, Sq and Sk sequence lengths, H query heads, G key heads, D head dimension.
Query head h reads key head h // (H // G).

Reference: Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, equation 1; Ainslie
et al., "GQA", 2023, arXiv:2305.13245.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.attention.contract import check_shapes, resolve_scale

Array = NDArray[np.float64]


class Gradients(NamedTuple):
    """Gradients with the shapes of q, k and v."""

    q: Array
    k: Array
    v: Array


def forward(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    causal: bool = False,
    softmax_scale: float | None = None,
) -> tuple[Array, Array]:
    """Returns the output and the log-sum-exp of the scores.

    Args:
      q: [B, Sq, H, D].
      k: [B, Sk, G, D].
      v: [B, Sk, G, D].
      causal: hide later keys.
      softmax_scale: 1 / sqrt(D) unless given.

    Returns:
      out [B, Sq, H, D] and lse [B, H, Sq], float64; lse is -inf where a query sees no key.

    Raises:
      ValueError: the shapes are not those of an attention problem.
    """
    q, k, v = (np.asarray(x, dtype=np.float64) for x in (q, k, v))
    probabilities, lse = _softmax(q, k, causal, softmax_scale)
    return np.einsum("bhij,bjhd->bihd", probabilities, _repeat_heads(v, q.shape[2])), lse


def backward(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    grad_out: ArrayLike,
    *,
    causal: bool = False,
    softmax_scale: float | None = None,
) -> Gradients:
    """Returns the gradients of sum(grad_out * out), with the arguments of `forward`.

    With dP = grad_out v^T, the softmax gives dS = P * (dP - rowsum(P * dP)).
    """
    q, k, v, grad_out = (np.asarray(x, dtype=np.float64) for x in (q, k, v, grad_out))
    num_heads, num_kv_heads = q.shape[2], k.shape[2]
    scale = resolve_scale(softmax_scale, q.shape[3])
    probabilities, _ = _softmax(q, k, causal, softmax_scale)
    grad_p = np.einsum("bihd,bjhd->bhij", grad_out, _repeat_heads(v, num_heads))
    row_sums = np.sum(probabilities * grad_p, axis=-1, keepdims=True)
    grad_scores = scale * probabilities * (grad_p - row_sums)
    grad_q = np.einsum("bhij,bjhd->bihd", grad_scores, _repeat_heads(k, num_heads))
    grad_k = np.einsum("bhij,bihd->bjhd", grad_scores, q)
    grad_v = np.einsum("bhij,bihd->bjhd", probabilities, grad_out)
    return Gradients(grad_q, _sum_groups(grad_k, num_kv_heads), _sum_groups(grad_v, num_kv_heads))


def _softmax(q: Array, k: Array, causal: bool, softmax_scale: float | None) -> tuple[Array, Array]:
    """Probabilities [B, H, Sq, Sk] and log-sum-exp [B, H, Sq]."""
    sizes = check_shapes(q.shape, k.shape, k.shape)
    scale = resolve_scale(softmax_scale, sizes.head_dim)
    scores = scale * np.einsum("bihd,bjhd->bhij", q, _repeat_heads(k, sizes.num_heads))
    visible = np.ones((sizes.seq_q, sizes.seq_k), dtype=bool)
    if causal:
        visible = np.tril(visible, k=sizes.seq_k - sizes.seq_q)
    maximum = np.max(scores, axis=-1, keepdims=True, initial=-np.inf, where=visible)
    exponentials = np.zeros_like(scores)
    np.exp(scores - maximum, out=exponentials, where=np.broadcast_to(visible, scores.shape))
    total = np.sum(exponentials, axis=-1, keepdims=True)
    sees_any = total > 0
    probabilities = exponentials / np.where(sees_any, total, 1.0)
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
