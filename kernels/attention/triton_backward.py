"""Attention backward in Triton: probabilities are computed again from q, k and lse.

Three kernels, one after the other: `attention_bwd_delta`, then `attention_bwd_kv` over blocks of
keys and `attention_bwd_q` over blocks of queries. Each sums in registers in a fixed order, without
atomics: results are the same at every run. Arrays are as in triton_forward.py; q and k are rotated
already, and so are the gradients that leave for them.

Reference: Dao, "FlashAttention-2", 2023, arXiv:2307.08691, section 3.1.2.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from kernels.attention import triton_scores as scoring
from kernels.attention import triton_tiles as tiles
from kernels.attention.triton_scores import ALIBI, FULL, LOG2_E


class Inputs(NamedTuple):
    """Addresses of whole arrays."""

    q_ptr: Any
    k_ptr: Any
    v_ptr: Any
    grad_out_ptr: Any
    lse_ptr: Any
    delta_ptr: Any


@triton.jit
def attention_bwd_delta(
    out_ptr, grad_out_ptr, lse_ptr, grad_lse_ptr, delta_ptr, has_grad_lse, seq_q, num_heads,
    head_dim, BLOCK_Q: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Delta = sum(out * grad_out) - grad_lse of each query of one block of one head."""
    block, head, batch = tiles.locate(tl.cdiv(seq_q, BLOCK_Q), num_heads)
    out_ptr = tiles.head_start(out_ptr, batch, seq_q, num_heads, head, head_dim)
    grad_out_ptr = tiles.head_start(grad_out_ptr, batch, seq_q, num_heads, head, head_dim)
    stride = num_heads * head_dim
    first_query = block * BLOCK_Q
    out = tiles.load(out_ptr, first_query, seq_q, stride, head_dim, True, BLOCK_Q, BLOCK_D)
    grad_out = tiles.load(
        grad_out_ptr, first_query, seq_q, stride, head_dim, True, BLOCK_Q, BLOCK_D
    )
    delta = tl.sum(out.to(tl.float32) * grad_out.to(tl.float32), 1)
    queries = first_query + tl.arange(0, BLOCK_Q)
    in_array = queries < seq_q
    row = tiles.row_start(batch, num_heads, head, seq_q) + queries
    delta -= tl.load(grad_lse_ptr + row, mask=queries < seq_q * has_grad_lse, other=0.0)
    # The lse of a query that sees no key is -inf, and its gradient may be anything.
    lse = tl.load(lse_ptr + row, mask=in_array, other=0.0)
    tl.store(delta_ptr + row, tl.where(lse == float("-inf"), 0.0, delta), mask=in_array)


@triton.jit
def _load_sums(inputs, batch, num_heads, head, queries, seq_q, CHECK: tl.constexpr):
    """Lse, in log2, and delta of queries of one head.

    Lse is inf, which gives probabilities of 0, for queries that see no key or lie outside of the
    array; without CHECK none does.
    """
    start = tiles.row_start(batch, num_heads, head, seq_q)
    lse_ptr = inputs.lse_ptr + start
    delta_ptr = inputs.delta_ptr + start
    if CHECK:
        lse = tl.load(lse_ptr + queries, mask=queries < seq_q, other=float("inf"))
        delta = tl.load(delta_ptr + queries, mask=queries < seq_q, other=0.0)
    else:
        lse = tl.load(lse_ptr + queries)
        delta = tl.load(delta_ptr + queries)
    return tl.where(lse == float("-inf"), float("inf"), lse * LOG2_E), delta


@triton.jit
def _grad_scores(probabilities, dropped, grad_p, delta, cap_slope, features, FLAVOUR: tl.constexpr):
    """The gradient of the scores, and that before the softcap."""
    if FLAVOUR >= FULL and features.dropout_threshold != 0:
        # Where a probability is 0 by itself, so is the gradient.
        grad_p = tl.where(dropped != 0, grad_p * features.dropout_scale, 0.0)
    grad_scores = probabilities * (grad_p - delta)
    grad_products = grad_scores
    if FLAVOUR >= FULL:
        grad_products = grad_scores * cap_slope
    return grad_scores, grad_products


@triton.jit
def _add_grad_kv(
    grad_k, grad_v, k, v, inputs, batch, kv_head, first_key, kv_segments, span, window, features,
    sizes, MASKED: tl.constexpr, FLAVOUR: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Adds the queries in a span, of all heads of the group, to the gradients of some keys."""
    stride = sizes.num_heads * sizes.head_dim
    shift_k = sizes.seq_k - sizes.seq_q
    keys = first_key + tl.arange(0, BLOCK_K)[:, None]
    group = sizes.num_heads // sizes.num_kv_heads
    count = tiles.count_tiles(span, MASKED, BLOCK_Q)
    # One loop over heads and tiles: loads run ahead from one head into the next.
    for step in tl.range(0, group * count):
        q_head = kv_head * group + step // count
        first_query = tiles.nth_tile(span, step % count, MASKED, BLOCK_Q)
        queries = first_query + tl.arange(0, BLOCK_Q)
        positions = queries + shift_k
        head = scoring.of_head(features, batch, q_head, sizes.num_heads, FLAVOUR)
        q_ptr = tiles.head_start(
            inputs.q_ptr, batch, sizes.seq_q, sizes.num_heads, q_head, sizes.head_dim
        )
        grad_out_ptr = tiles.head_start(
            inputs.grad_out_ptr, batch, sizes.seq_q, sizes.num_heads, q_head, sizes.head_dim
        )
        q = scoring.load_queries(
            q_ptr, first_query, sizes.seq_q, stride, sizes.head_dim, features, MASKED, FLAVOUR,
            BLOCK_Q, BLOCK_D,
        )  # fmt: skip
        grad_out = scoring.load_queries(
            grad_out_ptr, first_query, sizes.seq_q, stride, sizes.head_dim, features, MASKED,
            FLAVOUR, BLOCK_Q, BLOCK_D,
        )  # fmt: skip
        lse, delta = _load_sums(
            inputs, batch, sizes.num_heads, q_head, queries, sizes.seq_q, MASKED
        )
        rise = scoring.alibi_rise(head.slope, first_key, first_query + shift_k + BLOCK_Q - 1)
        if FLAVOUR >= ALIBI and not MASKED:
            lse -= rise * (first_key - positions).to(tl.float32)
        # Transposed, [key, query]: the products below take it as it is.
        products = tl.dot(k, tl.trans(q), input_precision=PRECISION)
        scores, cap_slope = scoring.score(
            products, features, head.slope, positions[None, :], keys, first_key, rise, MASKED,
            q.dtype == tl.float32, FLAVOUR,
        )  # fmt: skip
        probabilities = tl.exp2(scores - lse[None, :])
        if MASKED:
            # By the queries that see a key: those that are none have probabilities of 0 already.
            seen = scoring.is_within(
                positions[None, :], keys - window.right, window.left + window.right + 1
            )
            if FLAVOUR >= FULL:
                q_segments = scoring.load_query_segments(features, queries, sizes.seq_q)
                seen = seen & (q_segments[None, :] == kv_segments)
            probabilities = tl.where(seen, probabilities, 0.0)
        dropped = scoring.drop(probabilities, features, head, queries[None, :], keys, FLAVOUR)
        grad_v = tl.dot(dropped.to(q.dtype), grad_out, grad_v, input_precision=PRECISION)
        grad_p = tl.dot(v, tl.trans(grad_out), input_precision=PRECISION)
        _, grad_products = _grad_scores(
            probabilities, dropped, grad_p, delta[None, :], cap_slope, features, FLAVOUR
        )
        grad_k = tl.dot(grad_products.to(q.dtype), q, grad_k, input_precision=PRECISION)
    return grad_k, grad_v


@triton.jit
def attention_bwd_kv(
    q_ptr, k_ptr, v_ptr, grad_out_ptr, lse_ptr, delta_ptr, grad_k_ptr, grad_v_ptr,
    alibi_slopes_ptr, q_segments_ptr, kv_segments_ptr, dropout_seeds_ptr, softmax_scale,
    window_left, window_right, softcap, dropout_threshold, dropout_scale, has_alibi, has_segments,
    seq_q, seq_k, num_heads, num_kv_heads, head_dim, FLAVOUR: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """grad_k and grad_v of one block of keys of one key head, summed over its query heads."""
    sizes = tiles.Sizes(seq_q, seq_k, num_heads, num_kv_heads, head_dim)
    window = tiles.Window(window_left, window_right)
    # With a causal mask the first keys have the most queries: the longest programs start first.
    block, kv_head, batch = tiles.locate(tl.cdiv(seq_k, BLOCK_K), num_kv_heads)
    inputs = Inputs(q_ptr, k_ptr, v_ptr, grad_out_ptr, lse_ptr, delta_ptr)
    features = scoring.Features(
        softmax_scale, softcap, dropout_threshold, dropout_scale, has_alibi, has_segments,
        alibi_slopes_ptr, q_segments_ptr + batch.to(tl.int64) * seq_q,
        kv_segments_ptr + batch.to(tl.int64) * seq_k, dropout_seeds_ptr,
    )  # fmt: skip
    k_ptr = tiles.head_start(k_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    v_ptr = tiles.head_start(v_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    kv_stride = num_kv_heads * head_dim
    first_key = block * BLOCK_K
    k = scoring.load_keys(
        k_ptr, first_key, seq_k, kv_stride, head_dim, features, True, FLAVOUR, BLOCK_K, BLOCK_D
    )
    v = scoring.load_keys(
        v_ptr, first_key, seq_k, kv_stride, head_dim, features, True, FLAVOUR, BLOCK_K, BLOCK_D
    )
    last_key = tl.minimum(first_key + BLOCK_K, seq_k) - 1
    span = tiles.find_span(
        first_key - (seq_k - seq_q), last_key - (seq_k - seq_q), window_right, window_left, seq_q,
        FLAVOUR >= ALIBI, BLOCK_Q,
    )  # fmt: skip
    kv_segments = first_key + tl.arange(0, BLOCK_K)[:, None]
    if FLAVOUR >= FULL:
        kv_segments = scoring.load_key_segments(features, kv_segments, seq_k)
        if has_segments != 0:
            span = scoring.narrow_to_segments(
                span, kv_segments, features.q_segments_ptr, seq_q, BLOCK_Q
            )

    grad_k = tl.zeros([BLOCK_K, BLOCK_D], dtype=tl.float32)
    grad_v = tl.zeros([BLOCK_K, BLOCK_D], dtype=tl.float32)
    for masked in tl.static_range(2):
        grad_k, grad_v = _add_grad_kv(
            grad_k, grad_v, k, v, inputs, batch, kv_head, first_key, kv_segments, span, window,
            features, sizes, masked == 1, FLAVOUR, PRECISION, BLOCK_Q, BLOCK_K, BLOCK_D,
        )  # fmt: skip
    grad_k_ptr = tiles.head_start(grad_k_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    grad_v_ptr = tiles.head_start(grad_v_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    grad_k *= softmax_scale
    grad_v *= dropout_scale
    tiles.store(grad_k_ptr, grad_k, first_key, seq_k, kv_stride, head_dim, BLOCK_K, BLOCK_D)
    tiles.store(grad_v_ptr, grad_v, first_key, seq_k, kv_stride, head_dim, BLOCK_K, BLOCK_D)


@triton.jit
def _add_grad_q(
    grad_q, grad_slope, q, grad_out, lse, delta, k_ptr, v_ptr, first_query, q_segments, span,
    window, features, head, has_grad_slopes, sizes, MASKED: tl.constexpr, FLAVOUR: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Adds the keys in a span to the gradient of a block of queries."""
    stride = sizes.num_kv_heads * sizes.head_dim
    shift_k = sizes.seq_k - sizes.seq_q
    queries = first_query + tl.arange(0, BLOCK_Q)
    positions = queries + shift_k
    last_position = tl.minimum(first_query + BLOCK_Q, sizes.seq_q) - 1 + shift_k
    first_seen, count_seen = scoring.seen_keys(positions, window, sizes.seq_k)
    for step in tl.range(0, tiles.count_tiles(span, MASKED, BLOCK_K)):
        first_key = tiles.nth_tile(span, step, MASKED, BLOCK_K)
        keys = (first_key + tl.arange(0, BLOCK_K))[None, :]
        k = scoring.load_keys(
            k_ptr, first_key, sizes.seq_k, stride, sizes.head_dim, features, MASKED, FLAVOUR,
            BLOCK_K, BLOCK_D,
        )  # fmt: skip
        v = scoring.load_keys(
            v_ptr, first_key, sizes.seq_k, stride, sizes.head_dim, features, MASKED, FLAVOUR,
            BLOCK_K, BLOCK_D,
        )  # fmt: skip
        rise = scoring.alibi_rise(head.slope, first_key, last_position)
        tile_lse = lse
        if FLAVOUR >= ALIBI and not MASKED:
            tile_lse = lse - rise * (first_key - positions).to(tl.float32)
        products = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        scores, cap_slope = scoring.score(
            products, features, head.slope, positions[:, None], keys, first_key, rise, MASKED,
            q.dtype == tl.float32, FLAVOUR,
        )  # fmt: skip
        probabilities = tl.exp2(scores - tile_lse[:, None])
        if MASKED:
            seen = scoring.is_within(keys, first_seen[:, None], count_seen[:, None])
            if FLAVOUR >= FULL:
                kv_segments = scoring.load_key_segments(features, keys, sizes.seq_k)
                seen = seen & (q_segments[:, None] == kv_segments)
            probabilities = tl.where(seen, probabilities, 0.0)
        grad_p = tl.dot(grad_out, tl.trans(v), input_precision=PRECISION)
        dropped = scoring.drop(probabilities, features, head, queries[:, None], keys, FLAVOUR)
        grad_scores, grad_products = _grad_scores(
            probabilities, dropped, grad_p, delta[:, None], cap_slope, features, FLAVOUR
        )
        if FLAVOUR >= ALIBI and has_grad_slopes != 0:
            distances = tl.abs(positions[:, None] - keys).to(tl.float32)
            grad_slope -= tl.sum(grad_scores * distances, 1)
        grad_q = tl.dot(grad_products.to(k.dtype), k, grad_q, input_precision=PRECISION)
    return grad_q, grad_slope


@triton.jit
def attention_bwd_q(
    q_ptr, k_ptr, v_ptr, grad_out_ptr, lse_ptr, delta_ptr, grad_q_ptr, grad_slopes_ptr,
    alibi_slopes_ptr, q_segments_ptr, kv_segments_ptr, dropout_seeds_ptr, softmax_scale,
    window_left, window_right, softcap, dropout_threshold, dropout_scale, has_alibi, has_segments,
    has_grad_slopes, seq_q, seq_k, num_heads, num_kv_heads, head_dim, FLAVOUR: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """grad_q and grad_slopes of one block of queries of one head."""
    sizes = tiles.Sizes(seq_q, seq_k, num_heads, num_kv_heads, head_dim)
    window = tiles.Window(window_left, window_right)
    blocks = tl.cdiv(seq_q, BLOCK_Q)
    block, q_head, batch = tiles.locate(blocks, num_heads)
    kv_head = q_head // (num_heads // num_kv_heads)
    inputs = Inputs(q_ptr, k_ptr, v_ptr, grad_out_ptr, lse_ptr, delta_ptr)
    features = scoring.Features(
        softmax_scale, softcap, dropout_threshold, dropout_scale, has_alibi, has_segments,
        alibi_slopes_ptr, q_segments_ptr + batch.to(tl.int64) * seq_q,
        kv_segments_ptr + batch.to(tl.int64) * seq_k, dropout_seeds_ptr,
    )  # fmt: skip
    head = scoring.of_head(features, batch, q_head, num_heads, FLAVOUR)
    q_ptr = tiles.head_start(q_ptr, batch, seq_q, num_heads, q_head, head_dim)
    grad_out_ptr = tiles.head_start(grad_out_ptr, batch, seq_q, num_heads, q_head, head_dim)
    k_ptr = tiles.head_start(k_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    v_ptr = tiles.head_start(v_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    q_stride = num_heads * head_dim

    # As in the forward pass, the longest programs start first.
    first_query = (blocks - 1 - block) * BLOCK_Q
    queries = first_query + tl.arange(0, BLOCK_Q)
    first_position = first_query + seq_k - seq_q
    last_position = tl.minimum(first_query + BLOCK_Q, seq_q) - 1 + seq_k - seq_q
    span = tiles.find_span(
        first_position, last_position, window_left, window_right, seq_k, FLAVOUR >= ALIBI, BLOCK_K
    )
    q_segments = queries
    if FLAVOUR >= FULL:
        q_segments = scoring.load_query_segments(features, queries, seq_q)
        if has_segments != 0:
            span = scoring.narrow_to_segments(
                span, q_segments, features.kv_segments_ptr, seq_k, BLOCK_K
            )
    lse, delta = _load_sums(inputs, batch, num_heads, q_head, queries, seq_q, True)
    q = scoring.load_queries(
        q_ptr, first_query, seq_q, q_stride, head_dim, features, True, FLAVOUR, BLOCK_Q, BLOCK_D
    )
    grad_out = scoring.load_queries(
        grad_out_ptr, first_query, seq_q, q_stride, head_dim, features, True, FLAVOUR, BLOCK_Q,
        BLOCK_D,
    )  # fmt: skip

    grad_q = tl.zeros([BLOCK_Q, BLOCK_D], dtype=tl.float32)
    grad_slope = tl.zeros([BLOCK_Q], dtype=tl.float32)
    for masked in tl.static_range(2):
        grad_q, grad_slope = _add_grad_q(
            grad_q, grad_slope, q, grad_out, lse, delta, k_ptr, v_ptr, first_query, q_segments,
            span, window, features, head, has_grad_slopes, sizes, masked == 1, FLAVOUR, PRECISION,
            BLOCK_Q, BLOCK_K, BLOCK_D,
        )  # fmt: skip
    grad_q *= softmax_scale
    grad_q_ptr = tiles.head_start(grad_q_ptr, batch, seq_q, num_heads, q_head, head_dim)
    tiles.store(grad_q_ptr, grad_q, first_query, seq_q, q_stride, head_dim, BLOCK_Q, BLOCK_D)
    if FLAVOUR >= ALIBI:
        grad_slopes_ptr += tiles.row_start(batch, num_heads, q_head, seq_q)
        tl.store(grad_slopes_ptr + queries, grad_slope, mask=queries < seq_q * has_grad_slopes)
