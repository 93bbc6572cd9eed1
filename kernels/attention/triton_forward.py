"""Attention forward in Triton.

Arrays are contiguous: q, out [batch, seq_q, num_heads, head_dim]; k, v [batch, seq_k,
num_kv_heads, head_dim]; lse [batch, num_heads, seq_q] float32. Sums are float32.

Masks cost nothing where they do not matter: one loop runs over the tiles that need none, and one
over the others; tiles that no query of the block sees are in neither.

Reference: Dao, "FlashAttention-2", 2023, arXiv:2307.08691.
"""

import triton
import triton.language as tl

from kernels.attention import triton_scores as scoring
from kernels.attention import triton_tiles as tiles
from kernels.attention.triton_rope import Rope, load_rotated, load_unrotated
from kernels.attention.triton_scores import ALIBI, DECODE, FULL, LN_2, LOG2_E, PLAIN


@triton.jit
def _fold(
    acc, maximum, total, q, q_first, q_second, k_ptr, v_ptr, first_query, q_segments, span, window,
    features, head, rope, sizes, MASKED: tl.constexpr, FLAVOUR: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Folds the tiles of a span that need a mask, or those that do not, into the online softmax."""
    stride = sizes.num_kv_heads * sizes.head_dim
    shift_k = sizes.seq_k - sizes.seq_q
    queries = first_query + tl.arange(0, BLOCK_Q)
    positions = queries + shift_k
    last_position = tl.minimum(first_query + BLOCK_Q, sizes.seq_q) - 1 + shift_k
    first_seen, count_seen = scoring.seen_keys(positions, window, sizes.seq_k)
    for step in tl.range(0, tiles.count_tiles(span, MASKED, BLOCK_K)):
        first_key = tiles.nth_tile(span, step, MASKED, BLOCK_K)
        keys = (first_key + tl.arange(0, BLOCK_K))[None, :]
        if FLAVOUR >= DECODE:
            k = load_unrotated(
                k_ptr, first_key, sizes.seq_k, stride, sizes.head_dim, rope, BLOCK_K, BLOCK_D
            )
        else:
            k = tiles.load(
                k_ptr, first_key, sizes.seq_k, stride, sizes.head_dim, MASKED, BLOCK_K, BLOCK_D
            )
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        if FLAVOUR >= DECODE and rope.rotary_dim > 0:
            k_first, k_second = load_rotated(
                k_ptr, first_key, sizes.seq_k, stride, rope, tl.maximum(-shift_k, 0), BLOCK_K,
                BLOCK_D,
            )  # fmt: skip
            scores = tl.dot(q_first, tl.trans(k_first), scores, input_precision=PRECISION)
            scores = tl.dot(q_second, tl.trans(k_second), scores, input_precision=PRECISION)
        # What is the same for all keys of a query is added to `shift`, not to each score.
        factor = 1.0
        by_query = tl.zeros([BLOCK_Q], dtype=tl.float32)
        if FLAVOUR == PLAIN:
            # The scale is positive: the largest product has the largest score.
            factor = features.softmax_scale * LOG2_E
        else:
            rise = scoring.alibi_rise(head.slope, first_key, last_position)
            if not MASKED:
                by_query = rise * (first_key - positions).to(tl.float32)
            scores, _ = scoring.score(
                scores, features, head.slope, positions[:, None], keys, first_key, rise, MASKED,
                k.dtype == tl.float32, FLAVOUR,
            )  # fmt: skip
        if MASKED:
            seen = scoring.is_within(keys, first_seen[:, None], count_seen[:, None])
            if FLAVOUR >= FULL:
                kv_segments = scoring.load_key_segments(features, keys, sizes.seq_k)
                seen = seen & (q_segments[:, None] == kv_segments)
            scores = tl.where(seen, scores, float("-inf"))
        new_maximum = tl.maximum(maximum, tl.max(scores, 1) * factor + by_query)
        # A query that has seen no key yet has maximum -inf: -inf - 0 gives it probabilities of 0.
        shift = tl.where(new_maximum == float("-inf"), 0.0, new_maximum)
        probabilities = tl.exp2(scores * factor - (shift - by_query)[:, None])
        rescale = tl.exp2(maximum - shift)
        total = total * rescale + tl.sum(probabilities, 1)
        probabilities = scoring.drop(probabilities, features, head, queries[:, None], keys, FLAVOUR)
        v = scoring.load_keys(
            v_ptr, first_key, sizes.seq_k, stride, sizes.head_dim, features, MASKED, FLAVOUR,
            BLOCK_K, BLOCK_D,
        )  # fmt: skip
        acc = acc * rescale[:, None]
        acc = tl.dot(probabilities.to(v.dtype), v, acc, input_precision=PRECISION)
        maximum = new_maximum
    return acc, maximum, total


@triton.jit
def attention_fwd(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, alibi_slopes_ptr, rope_cos_ptr, rope_sin_ptr,
    q_segments_ptr, kv_segments_ptr, dropout_seeds_ptr, softmax_scale, window_left, window_right,
    softcap, dropout_threshold, dropout_scale, has_alibi, has_segments, rotary_dim,
    rotary_interleaved, seq_q, seq_k, num_heads, num_kv_heads, head_dim, FLAVOUR: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Out and lse of one block of queries of one head."""
    sizes = tiles.Sizes(seq_q, seq_k, num_heads, num_kv_heads, head_dim)
    window = tiles.Window(window_left, window_right)
    blocks = tl.cdiv(seq_q, BLOCK_Q)
    block, q_head, batch = tiles.locate(blocks, num_heads)
    kv_head = q_head // (num_heads // num_kv_heads)
    features = scoring.Features(
        softmax_scale, softcap, dropout_threshold, dropout_scale, has_alibi, has_segments,
        alibi_slopes_ptr, q_segments_ptr + batch.to(tl.int64) * seq_q,
        kv_segments_ptr + batch.to(tl.int64) * seq_k, dropout_seeds_ptr,
    )  # fmt: skip
    head = scoring.of_head(features, batch, q_head, num_heads, FLAVOUR)
    rope = Rope(rope_cos_ptr, rope_sin_ptr, rotary_dim, rotary_interleaved)
    q_ptr = tiles.head_start(q_ptr, batch, seq_q, num_heads, q_head, head_dim)
    k_ptr = tiles.head_start(k_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    v_ptr = tiles.head_start(v_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    q_stride = num_heads * head_dim

    # With a causal mask the last queries have the most keys: the longest programs start first.
    first_query = (blocks - 1 - block) * BLOCK_Q
    queries = first_query + tl.arange(0, BLOCK_Q)
    first_position = first_query + seq_k - seq_q
    last_position = tl.minimum(first_query + BLOCK_Q, seq_q) - 1 + seq_k - seq_q
    span = tiles.find_span(
        first_position, last_position, window_left, window_right, seq_k, FLAVOUR >= ALIBI, BLOCK_K
    )
    if FLAVOUR >= DECODE:
        # Reading the keys takes longer than masking them: one loop does.
        span = tiles.mask_all(span.begin, span.end)
    q_segments = queries
    if FLAVOUR >= FULL:
        q_segments = scoring.load_query_segments(features, queries, seq_q)
        if has_segments != 0:
            span = scoring.narrow_to_segments(
                span, q_segments, features.kv_segments_ptr, seq_k, BLOCK_K
            )
    q = tiles.load(q_ptr, first_query, seq_q, q_stride, head_dim, True, BLOCK_Q, BLOCK_D)
    q_first = q
    q_second = q
    if FLAVOUR >= DECODE:
        first_row = tl.maximum(seq_k - seq_q, 0)
        q_first, q_second = load_rotated(
            q_ptr, first_query, seq_q, q_stride, rope, first_row, BLOCK_Q, BLOCK_D
        )

    acc = tl.zeros([BLOCK_Q, BLOCK_D], dtype=tl.float32)
    maximum = tl.full([BLOCK_Q], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_Q], dtype=tl.float32)
    for masked in tl.static_range(1 if FLAVOUR >= DECODE else 0, 2):
        acc, maximum, total = _fold(
            acc, maximum, total, q, q_first, q_second, k_ptr, v_ptr, first_query, q_segments, span,
            window, features, head, rope, sizes, masked == 1, FLAVOUR, PRECISION, BLOCK_Q, BLOCK_K,
            BLOCK_D,
        )  # fmt: skip

    # A query that sees no key has total 0 and maximum -inf; what others see may be NaN, and times 0
    # in its acc. NaN stays NaN.
    acc = tl.where((total == 0)[:, None], 0.0, acc)
    total = tl.where(total == 0, 1.0, total)
    lse = (maximum + tl.log2(total)) * LN_2
    lse_ptr += tiles.row_start(batch, num_heads, q_head, seq_q)
    tl.store(lse_ptr + queries, lse, mask=queries < seq_q)
    out = acc * (dropout_scale / total)[:, None]
    out_ptr = tiles.head_start(out_ptr, batch, seq_q, num_heads, q_head, head_dim)
    tiles.store(out_ptr, out, first_query, seq_q, q_stride, head_dim, BLOCK_Q, BLOCK_D)
