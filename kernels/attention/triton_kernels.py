"""Attention in Triton: forward and backward kernels, and the variants compiled ahead of time.

Arrays are contiguous: q, out [batch, seq_q, num_heads, head_dim]; k, v [batch, seq_k,
num_kv_heads, head_dim]; lse, delta [batch, num_heads, seq_q] float32. A tile holds a whole head,
padded with zeros to BLOCK_D. Sums are float32. Softmax works in base 2, with log2(e) folded into
the scale, because the hardware has exp2 and not exp. No atomics: results are the same at every run.

Causality and the ragged end of the keys cost nothing where they do not matter: each loop runs over
the tiles that need no mask first, and then over those that do.

This file imports nothing but Triton and the standard library, so that it compiles on its own.

Reference: Dao, "FlashAttention-2", 2023, arXiv:2307.08691.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _locate(num_blocks, num_heads):
    """Splits the program index into (block, head, batch)."""
    index = tl.program_id(0)
    block = index % num_blocks
    head = (index // num_blocks) % num_heads
    batch = index // num_blocks // num_heads
    return block, head, batch


@triton.jit
def _head(ptr, batch, seq_len, num_heads, head, head_dim):
    """The first row of one head of [batch, seq_len, num_heads, head_dim]."""
    return ptr + (batch.to(tl.int64) * seq_len * num_heads + head) * head_dim


@triton.jit
def _row(ptr, batch, num_heads, head, seq_q):
    """The row of one head of [batch, num_heads, seq_q]."""
    return ptr + (batch.to(tl.int64) * num_heads + head) * seq_q


@triton.jit
def _tile(ptr, first, seq_len, stride, head_dim, ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    """Addresses and mask of the rows [first, first + ROWS) of one head.

    Offsets within the tile are 32 bits wide and the same in every step of a loop.
    """
    rows = tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK_D)
    start = ptr + tl.cast(first, tl.int64) * stride
    mask = (first + rows < seq_len)[:, None] & (columns < head_dim)[None, :]
    return start + (rows[:, None] * stride + columns[None, :]), mask


@triton.jit
def _load(ptr, first, seq_len, stride, head_dim, ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    """The tile [ROWS, BLOCK_D] from row `first` of one head, with zeros outside of the array."""
    pointers, mask = _tile(ptr, first, seq_len, stride, head_dim, ROWS, BLOCK_D)
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def _store(ptr, tile, first, seq_len, stride, head_dim, ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    pointers, mask = _tile(ptr, first, seq_len, stride, head_dim, ROWS, BLOCK_D)
    tl.store(pointers, tile.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def _key_ranges(first_query, seq_q, seq_k, causal, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr):
    """The keys of a block of queries: [0, full) needs no mask, [full, end) does."""
    full = seq_k
    end = seq_k
    if causal:
        diagonal = first_query + seq_k - seq_q
        full = tl.minimum(seq_k, tl.maximum(diagonal + 1, 0))
        end = tl.minimum(seq_k, tl.maximum(diagonal + BLOCK_Q, 0))
    return full // BLOCK_K * BLOCK_K, end


@triton.jit
def _visible(
    first_query, first_key, seq_q, seq_k, causal, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr
):
    """Which query (rows) sees which key (columns)."""
    queries = first_query + tl.arange(0, BLOCK_Q)[:, None]
    keys = first_key + tl.arange(0, BLOCK_K)[None, :]
    return (keys < seq_k) & ((causal == 0) | (keys <= queries + seq_k - seq_q))


@triton.jit
def _forward_steps(
    acc, maximum, total, q, k_ptr, v_ptr, first_query, begin, end, scale, seq_q, seq_k, kv_stride,
    head_dim, causal, MASKED: tl.constexpr, PRECISION: tl.constexpr, BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Folds the keys [begin, end) into the online softmax."""
    for first_key in tl.range(begin, end, BLOCK_K):
        k = _load(k_ptr, first_key, seq_k, kv_stride, head_dim, BLOCK_K, BLOCK_D)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        if MASKED:
            seen = _visible(first_query, first_key, seq_q, seq_k, causal, BLOCK_Q, BLOCK_K)
            scores = tl.where(seen, scores, float("-inf"))
        new_maximum = tl.maximum(maximum, tl.max(scores, 1))
        # A query that has seen no key yet has maximum -inf: -inf - 0 gives it probabilities of 0.
        shift = tl.where(new_maximum == float("-inf"), 0.0, new_maximum)
        probabilities = tl.exp2(scores - shift[:, None])
        rescale = tl.exp2(maximum - shift)
        total = total * rescale + tl.sum(probabilities, 1)
        v = _load(v_ptr, first_key, seq_k, kv_stride, head_dim, BLOCK_K, BLOCK_D)
        acc = acc * rescale[:, None]
        acc = tl.dot(probabilities.to(v.dtype), v, acc, input_precision=PRECISION)
        maximum = new_maximum
    return acc, maximum, total


@triton.jit
def attention_fwd(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, softmax_scale, seq_q, seq_k, num_heads, num_kv_heads,
    head_dim, causal, PRECISION: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Out and lse of one block of queries of one head."""
    block, head, batch = _locate(tl.cdiv(seq_q, BLOCK_Q), num_heads)
    kv_head = head // (num_heads // num_kv_heads)
    q_ptr = _head(q_ptr, batch, seq_q, num_heads, head, head_dim)
    k_ptr = _head(k_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    v_ptr = _head(v_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    out_ptr = _head(out_ptr, batch, seq_q, num_heads, head, head_dim)
    lse_ptr = _row(lse_ptr, batch, num_heads, head, seq_q)
    q_stride = num_heads * head_dim
    kv_stride = num_kv_heads * head_dim
    scale = softmax_scale * LOG2_E

    first_query = block * BLOCK_Q
    q = _load(q_ptr, first_query, seq_q, q_stride, head_dim, BLOCK_Q, BLOCK_D)
    acc = tl.zeros([BLOCK_Q, BLOCK_D], dtype=tl.float32)
    maximum = tl.full([BLOCK_Q], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_Q], dtype=tl.float32)
    full, end = _key_ranges(first_query, seq_q, seq_k, causal, BLOCK_Q, BLOCK_K)
    acc, maximum, total = _forward_steps(
        acc, maximum, total, q, k_ptr, v_ptr, first_query, 0, full, scale, seq_q, seq_k, kv_stride,
        head_dim, causal, False, PRECISION, BLOCK_Q, BLOCK_K, BLOCK_D,
    )  # fmt: skip
    acc, maximum, total = _forward_steps(
        acc, maximum, total, q, k_ptr, v_ptr, first_query, full, end, scale, seq_q, seq_k,
        kv_stride, head_dim, causal, True, PRECISION, BLOCK_Q, BLOCK_K, BLOCK_D,
    )  # fmt: skip

    # A query that sees no key has total 0, acc 0 and maximum -inf. NaN stays NaN.
    total = tl.where(total == 0, 1.0, total)
    out = acc / total[:, None]
    lse = (maximum + tl.log2(total)) * LN_2
    _store(out_ptr, out, first_query, seq_q, q_stride, head_dim, BLOCK_Q, BLOCK_D)
    queries = first_query + tl.arange(0, BLOCK_Q)
    tl.store(lse_ptr + queries, lse, mask=queries < seq_q)


@triton.jit
def attention_bwd_delta(
    out_ptr, grad_out_ptr, delta_ptr, seq_q, num_heads, head_dim, BLOCK_Q: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Delta = sum(out * grad_out) of each query of one block of one head."""
    block, head, batch = _locate(tl.cdiv(seq_q, BLOCK_Q), num_heads)
    out_ptr = _head(out_ptr, batch, seq_q, num_heads, head, head_dim)
    grad_out_ptr = _head(grad_out_ptr, batch, seq_q, num_heads, head, head_dim)
    q_stride = num_heads * head_dim
    first_query = block * BLOCK_Q
    out = _load(out_ptr, first_query, seq_q, q_stride, head_dim, BLOCK_Q, BLOCK_D)
    grad_out = _load(grad_out_ptr, first_query, seq_q, q_stride, head_dim, BLOCK_Q, BLOCK_D)
    delta = tl.sum(out.to(tl.float32) * grad_out.to(tl.float32), 1)
    queries = first_query + tl.arange(0, BLOCK_Q)
    delta_ptr = _row(delta_ptr, batch, num_heads, head, seq_q)
    tl.store(delta_ptr + queries, delta, mask=queries < seq_q)


@triton.jit
def _load_lse(ptr, queries, seq_q):
    """Lse in units of log2; 0 for queries that see no key, whose probabilities are masked."""
    lse = tl.load(ptr + queries, mask=queries < seq_q, other=0.0) * LOG2_E
    return tl.where(lse == float("-inf"), 0.0, lse)


@triton.jit
def _grad_kv_steps(
    grad_k, grad_v, k, v, q_ptr, grad_out_ptr, lse_ptr, delta_ptr, first_key, begin, end, scale,
    seq_q, seq_k, q_stride, head_dim, causal, MASKED: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Adds the queries [begin, end) of one head to the gradients of a block of keys."""
    for first_query in tl.range(begin, end, BLOCK_Q):
        queries = first_query + tl.arange(0, BLOCK_Q)
        q = _load(q_ptr, first_query, seq_q, q_stride, head_dim, BLOCK_Q, BLOCK_D)
        lse = _load_lse(lse_ptr, queries, seq_q)
        # Transposed, [key, query]: both products below take it as it is.
        scores = tl.dot(k, tl.trans(q), input_precision=PRECISION) * scale
        probabilities = tl.exp2(scores - lse[None, :])
        if MASKED:
            seen = _visible(first_query, first_key, seq_q, seq_k, causal, BLOCK_Q, BLOCK_K)
            probabilities = tl.where(tl.trans(seen), probabilities, 0.0)
        grad_out = _load(grad_out_ptr, first_query, seq_q, q_stride, head_dim, BLOCK_Q, BLOCK_D)
        grad_v = tl.dot(probabilities.to(q.dtype), grad_out, grad_v, input_precision=PRECISION)
        delta = tl.load(delta_ptr + queries, mask=queries < seq_q, other=0.0)
        grad_p = tl.dot(v, tl.trans(grad_out), input_precision=PRECISION)
        grad_scores = probabilities * (grad_p - delta[None, :])
        grad_k = tl.dot(grad_scores.to(q.dtype), q, grad_k, input_precision=PRECISION)
    return grad_k, grad_v


@triton.jit
def attention_bwd_kv(
    q_ptr, k_ptr, v_ptr, grad_out_ptr, lse_ptr, delta_ptr, grad_k_ptr, grad_v_ptr, softmax_scale,
    seq_q, seq_k, num_heads, num_kv_heads, head_dim, causal, PRECISION: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """grad_k and grad_v of one block of keys of one key head, summed over its query heads."""
    block, kv_head, batch = _locate(tl.cdiv(seq_k, BLOCK_K), num_kv_heads)
    k_ptr = _head(k_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    v_ptr = _head(v_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    q_stride = num_heads * head_dim
    kv_stride = num_kv_heads * head_dim
    scale = softmax_scale * LOG2_E
    first_key = block * BLOCK_K
    k = _load(k_ptr, first_key, seq_k, kv_stride, head_dim, BLOCK_K, BLOCK_D)
    v = _load(v_ptr, first_key, seq_k, kv_stride, head_dim, BLOCK_K, BLOCK_D)

    # Queries before `begin` see none of the keys; from `full` on they see all of them. Keys past
    # the end need no mask: they only reach rows that are not stored.
    begin = 0
    full = 0
    if causal:
        diagonal = first_key - (seq_k - seq_q)
        begin = tl.maximum(diagonal, 0) // BLOCK_Q * BLOCK_Q
        full = tl.cdiv(tl.maximum(diagonal + BLOCK_K - 1, 0), BLOCK_Q) * BLOCK_Q
    grad_k = tl.zeros([BLOCK_K, BLOCK_D], dtype=tl.float32)
    grad_v = tl.zeros([BLOCK_K, BLOCK_D], dtype=tl.float32)
    group = num_heads // num_kv_heads
    for head in tl.range(kv_head * group, (kv_head + 1) * group):
        q_rows = _head(q_ptr, batch, seq_q, num_heads, head, head_dim)
        grad_out_rows = _head(grad_out_ptr, batch, seq_q, num_heads, head, head_dim)
        lse = _row(lse_ptr, batch, num_heads, head, seq_q)
        delta = _row(delta_ptr, batch, num_heads, head, seq_q)
        grad_k, grad_v = _grad_kv_steps(
            grad_k, grad_v, k, v, q_rows, grad_out_rows, lse, delta, first_key, begin,
            tl.minimum(full, seq_q), scale, seq_q, seq_k, q_stride, head_dim, causal, True,
            PRECISION, BLOCK_Q, BLOCK_K, BLOCK_D,
        )  # fmt: skip
        grad_k, grad_v = _grad_kv_steps(
            grad_k, grad_v, k, v, q_rows, grad_out_rows, lse, delta, first_key, full, seq_q, scale,
            seq_q, seq_k, q_stride, head_dim, causal, False, PRECISION, BLOCK_Q, BLOCK_K, BLOCK_D,
        )  # fmt: skip
    grad_k_ptr = _head(grad_k_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    grad_v_ptr = _head(grad_v_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    grad_k *= softmax_scale
    _store(grad_k_ptr, grad_k, first_key, seq_k, kv_stride, head_dim, BLOCK_K, BLOCK_D)
    _store(grad_v_ptr, grad_v, first_key, seq_k, kv_stride, head_dim, BLOCK_K, BLOCK_D)


@triton.jit
def _grad_q_steps(
    grad_q, q, grad_out, lse, delta, k_ptr, v_ptr, first_query, begin, end, scale, seq_q, seq_k,
    kv_stride, head_dim, causal, MASKED: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Adds the keys [begin, end) to the gradient of a block of queries."""
    for first_key in tl.range(begin, end, BLOCK_K):
        k = _load(k_ptr, first_key, seq_k, kv_stride, head_dim, BLOCK_K, BLOCK_D)
        v = _load(v_ptr, first_key, seq_k, kv_stride, head_dim, BLOCK_K, BLOCK_D)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        probabilities = tl.exp2(scores - lse[:, None])
        if MASKED:
            seen = _visible(first_query, first_key, seq_q, seq_k, causal, BLOCK_Q, BLOCK_K)
            probabilities = tl.where(seen, probabilities, 0.0)
        grad_p = tl.dot(grad_out, tl.trans(v), input_precision=PRECISION)
        grad_scores = probabilities * (grad_p - delta[:, None])
        grad_q = tl.dot(grad_scores.to(k.dtype), k, grad_q, input_precision=PRECISION)
    return grad_q


@triton.jit
def attention_bwd_q(
    q_ptr, k_ptr, v_ptr, grad_out_ptr, lse_ptr, delta_ptr, grad_q_ptr, softmax_scale, seq_q, seq_k,
    num_heads, num_kv_heads, head_dim, causal, PRECISION: tl.constexpr, BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """grad_q of one block of queries of one head."""
    block, head, batch = _locate(tl.cdiv(seq_q, BLOCK_Q), num_heads)
    kv_head = head // (num_heads // num_kv_heads)
    q_ptr = _head(q_ptr, batch, seq_q, num_heads, head, head_dim)
    grad_out_ptr = _head(grad_out_ptr, batch, seq_q, num_heads, head, head_dim)
    k_ptr = _head(k_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    v_ptr = _head(v_ptr, batch, seq_k, num_kv_heads, kv_head, head_dim)
    q_stride = num_heads * head_dim
    kv_stride = num_kv_heads * head_dim
    scale = softmax_scale * LOG2_E

    first_query = block * BLOCK_Q
    queries = first_query + tl.arange(0, BLOCK_Q)
    lse_ptr = _row(lse_ptr, batch, num_heads, head, seq_q)
    delta_ptr = _row(delta_ptr, batch, num_heads, head, seq_q)
    lse = _load_lse(lse_ptr, queries, seq_q)
    delta = tl.load(delta_ptr + queries, mask=queries < seq_q, other=0.0)
    q = _load(q_ptr, first_query, seq_q, q_stride, head_dim, BLOCK_Q, BLOCK_D)
    grad_out = _load(grad_out_ptr, first_query, seq_q, q_stride, head_dim, BLOCK_Q, BLOCK_D)
    grad_q = tl.zeros([BLOCK_Q, BLOCK_D], dtype=tl.float32)
    full, end = _key_ranges(first_query, seq_q, seq_k, causal, BLOCK_Q, BLOCK_K)
    grad_q = _grad_q_steps(
        grad_q, q, grad_out, lse, delta, k_ptr, v_ptr, first_query, 0, full, scale, seq_q, seq_k,
        kv_stride, head_dim, causal, False, PRECISION, BLOCK_Q, BLOCK_K, BLOCK_D,
    )  # fmt: skip
    grad_q = _grad_q_steps(
        grad_q, q, grad_out, lse, delta, k_ptr, v_ptr, first_query, full, end, scale, seq_q, seq_k,
        kv_stride, head_dim, causal, True, PRECISION, BLOCK_Q, BLOCK_K, BLOCK_D,
    )  # fmt: skip
    grad_q *= softmax_scale
    grad_q_ptr = _head(grad_q_ptr, batch, seq_q, num_heads, head, head_dim)
    _store(grad_q_ptr, grad_q, first_query, seq_q, q_stride, head_dim, BLOCK_Q, BLOCK_D)


class Variant(NamedTuple):
    """One kernel with everything fixed that has to be at compile time.

    `signature` gives the type of each run-time parameter in launch order; a number after a colon
    promises that the value is divisible by it. `constexprs` are the other parameters.
    """

    name: str
    kernel: Any
    signature: dict[str, str]
    constexprs: dict[str, Any]
    num_warps: int
    num_stages: int


class _Blocks(NamedTuple):
    block_q: int
    block_k: int
    num_warps: int
    num_stages: int


# By kernel, width of the elements in bytes and BLOCK_D: the largest blocks that keep within 255
# registers with few or no spills, and within the shared memory of sm_80 (163 KiB). Chosen from the
# compiler's reports, not tuned on hardware.
_FORWARD_BLOCKS = {
    (2, 32): _Blocks(128, 64, 4, 3),
    (2, 64): _Blocks(128, 64, 4, 3),
    (2, 128): _Blocks(128, 64, 8, 3),
    (4, 32): _Blocks(64, 32, 4, 2),
    (4, 64): _Blocks(64, 32, 4, 2),
    (4, 128): _Blocks(32, 32, 8, 2),
}
_GRAD_KV_BLOCKS = {
    (2, 32): _Blocks(64, 64, 4, 2),
    (2, 64): _Blocks(64, 128, 8, 2),
    (2, 128): _Blocks(32, 128, 8, 2),
    (4, 32): _Blocks(32, 64, 8, 1),
    (4, 64): _Blocks(16, 32, 4, 2),
    (4, 128): _Blocks(16, 32, 8, 2),
}
_GRAD_Q_BLOCKS = {
    (2, 32): _Blocks(64, 64, 4, 2),
    (2, 64): _Blocks(64, 64, 4, 2),
    (2, 128): _Blocks(64, 64, 8, 2),
    (4, 32): _Blocks(32, 32, 4, 2),
    (4, 64): _Blocks(32, 32, 4, 2),
    (4, 128): _Blocks(16, 32, 4, 2),
}
_BLOCKS = {
    attention_fwd: _FORWARD_BLOCKS,
    attention_bwd_delta: _GRAD_Q_BLOCKS,
    attention_bwd_kv: _GRAD_KV_BLOCKS,
    attention_bwd_q: _GRAD_Q_BLOCKS,
}
_DTYPES = {"float16": ("fp16", 2), "bfloat16": ("bf16", 2), "float32": ("fp32", 4)}


def _variant(kernel: Any, dtype: str, block_d: int) -> Variant:
    short_type, width = _DTYPES[dtype]
    blocks = _BLOCKS[kernel][width, block_d]
    types = {"lse_ptr": "*fp32:16", "delta_ptr": "*fp32:16", "softmax_scale": "fp32"}
    types |= {"head_dim": "i32:8"}  # Rows of 16-byte vectors.
    constexprs = {
        # Three TF32 products give float32's precision on tensor cores.
        "PRECISION": "tf32x3" if dtype == "float32" else "ieee",
        "BLOCK_Q": blocks.block_q,
        "BLOCK_K": blocks.block_k,
        "BLOCK_D": block_d,
    }
    names = kernel.arg_names
    return Variant(
        name=f"{kernel.__name__}_{dtype}_d{block_d}",
        kernel=kernel,
        signature={
            name: types.get(name, f"*{short_type}:16" if name.endswith("_ptr") else "i32")
            for name in names
            if name not in constexprs
        },
        constexprs={name: constexprs[name] for name in names if name in constexprs},
        num_warps=blocks.num_warps,
        num_stages=blocks.num_stages,
    )


VARIANTS = tuple(
    _variant(kernel, dtype, block_d)
    for kernel in _BLOCKS
    for dtype in _DTYPES
    for block_d in (32, 64, 128)
)
