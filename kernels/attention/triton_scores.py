"""Scores of attention's Triton kernels: mask, ALiBi, softcap, dropout, segments.

Each function takes the positions of queries and of keys as two arrays that broadcast to the tile,
[queries, 1] and [1, keys] or the other way round, so that forward and backward share it.

Softmax works in base 2: scores and lse are in units of log2, because the hardware has exp2 and not
exp.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from kernels.attention import triton_tiles as tiles

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)

# What a kernel is compiled for; each flavour includes those before it. DECODE has blocks of few
# queries and can apply RoPE by itself; the others leave that to `attention_rotate`.
PLAIN = tl.constexpr(0)  # Windows (causal among them) and grouped heads.
ALIBI = tl.constexpr(1)
FULL = tl.constexpr(2)  # Segments, softcap and dropout.
DECODE = tl.constexpr(3)

GOLDEN_RATIO = tl.constexpr(0x9E3779B9)

# Farther than any window reaches.
_FAR = tl.constexpr(1 << 30)
# Segment ids that agree with none.
_NO_QUERY = tl.constexpr(-1)
_NO_KEY = tl.constexpr(-2)
# Segment ids that are looked at in one step.
_SCAN = tl.constexpr(512)


class Features(NamedTuple):
    """What else there is to the scores; 0, or unused, where the problem has not the feature."""

    softmax_scale: Any
    softcap: Any
    dropout_threshold: Any  # The bits of an uint32, see dropout.h.
    dropout_scale: Any  # 1 / (1 - dropout_rate).
    has_alibi: Any
    has_segments: Any
    alibi_slopes_ptr: Any  # [batch, num_heads].
    q_segments_ptr: Any  # Of the batch row.
    kv_segments_ptr: Any
    dropout_seeds_ptr: Any  # [batch].


class Head(NamedTuple):
    """What the scores of one query head have of their own."""

    slope: Any  # ALiBi's.
    dropout_key: Any  # DropoutHeadKey of dropout.h.


@triton.jit
def of_head(features, batch, head, num_heads, FLAVOUR: tl.constexpr):
    """What a flavour reads for one head."""
    slope = 0.0
    key = tl.cast(0, tl.uint32)
    if FLAVOUR >= ALIBI:
        slope_ptr = features.alibi_slopes_ptr + batch * num_heads + head
        slope = tl.load(slope_ptr, mask=features.has_alibi != 0, other=0.0)
    if FLAVOUR >= FULL:
        has_dropout = features.dropout_threshold != 0
        seed = tl.load(features.dropout_seeds_ptr + batch, mask=has_dropout, other=0)
        key = mix(seed.to(tl.uint32) + (head + 1).to(tl.uint32) * GOLDEN_RATIO)
    return Head(slope, key)


@triton.jit
def mix(x):
    """Mixes the bits of an uint32, see dropout.h."""
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def drop(probabilities, features, head, queries, keys, FLAVOUR: tl.constexpr):
    """What dropout leaves of probabilities, by the indices of queries and keys."""
    dropped = probabilities
    if FLAVOUR >= FULL and features.dropout_threshold != 0:
        query_keys = mix(head.dropout_key + queries.to(tl.uint32))
        key_keys = mix((keys + 1).to(tl.uint32) * GOLDEN_RATIO)
        kept = mix(query_keys ^ key_keys) >= features.dropout_threshold.to(tl.uint32)
        dropped = tl.where(kept, probabilities, 0.0)
    return dropped


@triton.jit
def seen_keys(positions, window, seq_k):
    """The first key that a query at a position sees, and how many from there on, by the window."""
    first = positions - window.left
    last = tl.minimum(positions + window.right, seq_k - 1)
    return first, tl.maximum(last - first + 1, 0)


@triton.jit
def is_within(index, first, count):
    """Whether first <= index < first + count."""
    # In one comparison: a negative number is a large unsigned one.
    return (index - first).to(tl.uint32) < count.to(tl.uint32)


@triton.jit
def load_query_segments(features, queries, seq_q):
    """Segment ids of queries; all 0 where the problem has no segments."""
    in_array = queries < seq_q * features.has_segments
    ids = tl.load(features.q_segments_ptr + queries, mask=in_array, other=0)
    return tl.where((ids < 0) | (queries >= seq_q), _NO_QUERY, ids)


@triton.jit
def load_key_segments(features, keys, seq_k):
    """Segment ids of keys; all 0 where the problem has no segments."""
    in_array = keys < seq_k * features.has_segments
    ids = tl.load(features.kv_segments_ptr + keys, mask=in_array, other=0)
    return tl.where((ids < 0) | (keys >= seq_k), _NO_KEY, ids)


@triton.jit
def load_keys(
    ptr, first_key, seq_k, stride, head_dim, features, MASKED: tl.constexpr,
    FLAVOUR: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Rows of k or v from `first_key` on, zeros outside of the array and for padding."""
    if MASKED and FLAVOUR >= FULL:
        keys = first_key + tl.arange(0, BLOCK_K)[:, None]
        present = load_key_segments(features, keys, seq_k) != _NO_KEY
        tile = tiles.load_present(ptr, first_key, stride, head_dim, present, BLOCK_K, BLOCK_D)
    else:
        tile = tiles.load(ptr, first_key, seq_k, stride, head_dim, MASKED, BLOCK_K, BLOCK_D)
    return tile


@triton.jit
def load_queries(
    ptr, first_query, seq_q, stride, head_dim, features, MASKED: tl.constexpr,
    FLAVOUR: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Rows of q or grad_out from `first_query` on, zeros outside of the array and for padding."""
    if MASKED and FLAVOUR >= FULL:
        queries = first_query + tl.arange(0, BLOCK_Q)[:, None]
        present = load_query_segments(features, queries, seq_q) != _NO_QUERY
        tile = tiles.load_present(ptr, first_query, stride, head_dim, present, BLOCK_Q, BLOCK_D)
    else:
        tile = tiles.load(ptr, first_query, seq_q, stride, head_dim, MASKED, BLOCK_Q, BLOCK_D)
    return tile


@triton.jit
def narrow_to_segments(span, own_ids, ids_ptr, length, BLOCK: tl.constexpr):
    """The part of a span that the segments of a block allow, all of it in need of a mask.

    Outside of it, no id lies between the block's own least and greatest one.
    """
    least = tl.min(tl.where(own_ids < 0, _FAR, own_ids))
    greatest = tl.max(own_ids)
    first = span.end
    last = span.begin
    for start in tl.range(span.begin, span.end, _SCAN):
        rows = start + tl.arange(0, _SCAN)
        in_span = (rows < span.end) & (rows < length)
        ids = tl.load(ids_ptr + rows, mask=in_span, other=_NO_KEY)
        shared = (ids >= least) & (ids <= greatest)
        first = tl.minimum(first, tl.min(tl.where(shared, rows, span.end)))
        last = tl.maximum(last, tl.max(tl.where(shared, rows + 1, span.begin)))
    begin = first // BLOCK * BLOCK
    end = tl.maximum(tl.cdiv(last, BLOCK) * BLOCK, begin)
    return tiles.mask_all(begin, end)


@triton.jit
def alibi_rise(slope, first_key, last_position):
    """What a score gains from key to key in a tile on one side of the diagonal, in log2."""
    return tl.where(first_key < last_position, slope, -slope) * LOG2_E


@triton.jit
def tanh(x, EXACT: tl.constexpr):
    """The hyperbolic tangent; unless EXACT, with an absolute error of 1e-7."""
    size = x
    if EXACT:
        size = tl.abs(x)
    y = 1.0 - 2.0 / (tl.exp2(size * (2.0 * LOG2_E)) + 1.0)
    if EXACT:
        # The minimax polynomial of Cephes' tanhf: near 0, the difference above cancels.
        z = x * x
        small = -5.70498872745e-3 * z + 2.06390887954e-2
        small = small * z - 5.37397155531e-2
        small = small * z + 1.33314422036e-1
        small = small * z - 3.33332819422e-1
        y = tl.where(size < 0.625, small * z * size + size, y)
        y = tl.where(x < 0, -y, y)
    return y


@triton.jit
def score(
    products, features, slope, positions, keys, first_key, rise, MASKED: tl.constexpr,
    EXACT: tl.constexpr, FLAVOUR: tl.constexpr,
):  # fmt: skip
    """Scores of a tile from its products q k, in log2, before the mask, and the softcap's slope.

    ALiBi's part on one side of the diagonal (not MASKED) is relative to the tile's first key, so
    that a score costs one addition: `rise * (first_key - position)` is left for the caller, who
    adds it to something else that depends on the query alone.
    """
    cap_slope = tl.full(products.shape, 1.0, dtype=tl.float32)
    scores = products * (features.softmax_scale * LOG2_E)
    if FLAVOUR >= FULL and features.softcap > 0:
        capped = tanh(products * (features.softmax_scale / features.softcap), EXACT)
        scores = capped * (features.softcap * LOG2_E)
        cap_slope = 1.0 - capped * capped
    if FLAVOUR >= ALIBI:
        if MASKED:
            distances = tl.abs(positions - keys).to(tl.float32)
            scores -= (slope * LOG2_E) * distances
        else:
            scores += rise * (keys - first_key).to(tl.float32)
    return scores, cap_slope
