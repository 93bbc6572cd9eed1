"""Linear attention in Triton: forward and backward kernels, and what is compiled ahead of time.

Arrays are contiguous and as in problem.h; the workspace is that of contract.workspace_bytes. The
sequence is cut into chunks. One kernel walks along it and writes down the state before each chunk;
another then takes all chunks at once. The backward pass does the same from the end, for the
gradient of the state. Sums are float32, and so are the weights until they enter a product; states
are kept in the dtype of the inputs, in which they enter products anyway. No atomics: results are
the same at every run.

Names: a row is one head of one batch row; phi are features; `age`, decay^(i + 1), is what reaches
token i of the state before its chunk; `rest`, decay^(n - 1 - j), is what of token j reaches the
state after its chunk of n tokens. Features are computed again where they are needed again: that
takes less time than the registers to keep them would.

This file imports nothing but Triton and the standard library, so that it compiles on its own.

Reference: Sun et al., "Retentive Network", 2023, arXiv:2307.08621; Yang et al., "Gated Linear
Attention", 2023, arXiv:2312.06635.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

ELU = tl.constexpr(1)
RELU = tl.constexpr(2)


@triton.jit
def _locate(value_dim, num_chunks, num_heads, BLOCK_V: tl.constexpr):
    """Splits the program index: the first value channel, the chunk, the row, batch, head."""
    num_blocks = tl.cdiv(value_dim, BLOCK_V)
    index = tl.program_id(0) // num_blocks
    row = index // num_chunks
    first_value = tl.program_id(0) % num_blocks * BLOCK_V
    return first_value, index % num_chunks, row, row // num_heads, row % num_heads


@triton.jit
def _head(ptr, batch, seq_len, num_heads, head, dim):
    """The first row of one head of [batch, seq_len, num_heads, dim]."""
    return ptr + (batch.to(tl.int64) * seq_len * num_heads + head) * dim


@triton.jit
def _tile(
    ptr, first, seq_len, num_heads, dim, first_column, ROWS: tl.constexpr, COLS: tl.constexpr
):
    """Addresses and mask of the tokens [first, first + ROWS) of one head."""
    rows = tl.arange(0, ROWS)
    columns = first_column + tl.arange(0, COLS)
    stride = num_heads * dim
    start = ptr + tl.cast(first, tl.int64) * stride
    mask = (first + rows < seq_len)[:, None] & (columns < dim)[None, :]
    return start + (rows[:, None] * stride + columns[None, :]), mask


@triton.jit
def _load(
    ptr, first, seq_len, num_heads, dim, first_column, ROWS: tl.constexpr, COLS: tl.constexpr
):
    """Tokens of one head, with zeros outside of the array."""
    pointers, mask = _tile(ptr, first, seq_len, num_heads, dim, first_column, ROWS, COLS)
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def _store(
    ptr, tile, first, seq_len, num_heads, dim, first_column, ROWS: tl.constexpr,
    COLS: tl.constexpr,
):  # fmt: skip
    pointers, mask = _tile(ptr, first, seq_len, num_heads, dim, first_column, ROWS, COLS)
    tl.store(pointers, tile.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def _state_tile(ptr, slot, key_dim, value_dim, first_value, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Addresses and mask of a tile of the kv of one slot of [slots, key_dim, value_dim]."""
    rows = tl.arange(0, ROWS)
    columns = first_value + tl.arange(0, COLS)
    mask = (rows < key_dim)[:, None] & (columns < value_dim)[None, :]
    start = ptr + tl.cast(slot, tl.int64) * key_dim * value_dim
    return start + (rows[:, None] * value_dim + columns[None, :]), mask


@triton.jit
def _load_state(ptr, slot, key_dim, value_dim, first_value, ROWS: tl.constexpr, COLS: tl.constexpr):
    pointers, mask = _state_tile(ptr, slot, key_dim, value_dim, first_value, ROWS, COLS)
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def _load_sum(ptr, slot, key_dim, ROWS: tl.constexpr):
    """The k_sum of one slot of [slots, key_dim]."""
    rows = tl.arange(0, ROWS)
    return tl.load(ptr + tl.cast(slot, tl.int64) * key_dim + rows, mask=rows < key_dim, other=0.0)


@triton.jit
def _start(
    kv_ptr, k_sum_ptr, row, key_dim, value_dim, first_value, given, ROWS: tl.constexpr,
    COLS: tl.constexpr,
):  # fmt: skip
    """This program's part of the state that a walk starts from: zeros unless given."""
    kv = tl.zeros([ROWS, COLS], dtype=tl.float32)
    k_sum = tl.zeros([ROWS], dtype=tl.float32)
    if given:
        pointers, mask = _state_tile(kv_ptr, row, key_dim, value_dim, first_value, ROWS, COLS)
        kv = tl.load(pointers, mask=mask, other=0.0)
        k_sum = _load_sum(k_sum_ptr, row, key_dim, ROWS)
    return kv, k_sum


@triton.jit
def _store_slot(
    kv_ptr, k_sum_ptr, kv, k_sum, slot, key_dim, value_dim, first_value, wanted,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Writes this program's part of a state, if wanted; the first program writes the k_sum."""
    rows = tl.arange(0, ROWS)
    if wanted:
        pointers, mask = _state_tile(kv_ptr, slot, key_dim, value_dim, first_value, ROWS, COLS)
        tl.store(pointers, kv.to(kv_ptr.dtype.element_ty), mask=mask)
        if first_value == 0:
            k_sum_ptr += tl.cast(slot, tl.int64) * key_dim
            tl.store(k_sum_ptr + rows, k_sum, mask=rows < key_dim)


@triton.jit
def _features(
    ptr, first, seq_len, num_heads, key_dim, feature_map, ROWS: tl.constexpr, COLS: tl.constexpr
):
    """Phi of tokens of one head, float32, with zeros outside of the array. A NaN stays one."""
    pointers, mask = _tile(ptr, first, seq_len, num_heads, key_dim, 0, ROWS, COLS)
    x = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
    elu = tl.where(x > 0, x + 1, tl.exp(x))
    relu = tl.where(x < 0, 0.0, x)
    phi = tl.where(feature_map == ELU, elu, tl.where(feature_map == RELU, relu, x))
    return tl.where(mask, phi, 0.0)


@triton.jit
def _slopes(phi, feature_map):
    """The derivative of phi, from phi."""
    elu = tl.where(phi > 1, 1.0, phi)
    relu = tl.where(phi > 0, 1.0, 0.0)
    return tl.where(feature_map == ELU, elu, tl.where(feature_map == RELU, relu, 1.0))


@triton.jit
def _log2_decay(decay_ptr, row, has_decay):
    return tl.log2(tl.load(decay_ptr + row, mask=has_decay != 0, other=1.0))


@triton.jit
def _age(log2_decay, CHUNK: tl.constexpr):
    return tl.exp2(log2_decay * (tl.arange(0, CHUNK) + 1))


@triton.jit
def _rest(log2_decay, count, CHUNK: tl.constexpr):
    return tl.exp2(log2_decay * tl.maximum(count - 1 - tl.arange(0, CHUNK), 0))


@triton.jit
def _distance(CHUNK: tl.constexpr):
    """[query, key]."""
    return tl.arange(0, CHUNK)[:, None] - tl.arange(0, CHUNK)[None, :]


@triton.jit
def _hide_and_decay(weights, distance, log2_decay):
    # Not a product with 0: what is hidden may be NaN.
    return tl.where(distance >= 0, weights * tl.exp2(log2_decay * tl.maximum(distance, 0)), 0.0)


@triton.jit
def linear_attention_states(
    k_ptr, v_ptr, decay_ptr, initial_kv_ptr, initial_k_sum_ptr, states_ptr, k_sums_ptr,
    final_kv_ptr, final_k_sum_ptr, seq_len, num_heads, num_kv_heads, key_dim, value_dim, causal,
    feature_map, has_decay, has_initial, has_final, PRECISION: tl.constexpr, CHUNK: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The states of one head, of a block of the value channels; unless causal, the last only."""
    first_value, _, row, batch, head = _locate(value_dim, 1, num_heads, BLOCK_V)
    kv_head = head // (num_heads // num_kv_heads)
    k_ptr = _head(k_ptr, batch, seq_len, num_kv_heads, kv_head, key_dim)
    v_ptr = _head(v_ptr, batch, seq_len, num_kv_heads, kv_head, value_dim)
    log2_decay = _log2_decay(decay_ptr, row, has_decay)

    kv, k_sum = _start(
        initial_kv_ptr, initial_k_sum_ptr, row, key_dim, value_dim, first_value, has_initial,
        BLOCK_K, BLOCK_V,
    )  # fmt: skip

    num_chunks = tl.maximum(tl.cdiv(seq_len, CHUNK), 1)
    for chunk in tl.range(0, num_chunks):
        _store_slot(
            states_ptr, k_sums_ptr, kv, k_sum, row * num_chunks + chunk, key_dim, value_dim,
            first_value, causal, BLOCK_K, BLOCK_V,
        )  # fmt: skip
        first = chunk * CHUNK
        count = tl.minimum(seq_len - first, CHUNK)
        v = _load(v_ptr, first, seq_len, num_kv_heads, value_dim, first_value, CHUNK, BLOCK_V)
        phi_k = _features(k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K)
        phi_k *= _rest(log2_decay, count, CHUNK)[:, None]
        power = tl.exp2(log2_decay * count)
        kv = tl.dot(tl.trans(phi_k.to(v.dtype)), v, kv * power, input_precision=PRECISION)
        k_sum = k_sum * power + tl.sum(phi_k, 0)

    _store_slot(
        states_ptr, k_sums_ptr, kv, k_sum, row * num_chunks, key_dim, value_dim, first_value,
        1 - causal, BLOCK_K, BLOCK_V,
    )  # fmt: skip
    _store_slot(
        final_kv_ptr, final_k_sum_ptr, kv, k_sum, row, key_dim, value_dim, first_value, has_final,
        BLOCK_K, BLOCK_V,
    )  # fmt: skip


@triton.jit
def linear_attention_fwd(
    q_ptr, k_ptr, v_ptr, decay_ptr, states_ptr, k_sums_ptr, out_ptr, factor_ptr, eps, scale,
    seq_len, num_heads, num_kv_heads, key_dim, value_dim, causal, feature_map, normalize, has_decay,
    PRECISION: tl.constexpr, CHUNK: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Out and factor of one chunk of one head, of a block of the value channels."""
    num_chunks = tl.maximum(tl.cdiv(seq_len, CHUNK), 1)
    first_value, chunk, row, batch, head = _locate(value_dim, num_chunks, num_heads, BLOCK_V)
    kv_head = head // (num_heads // num_kv_heads)
    q_ptr = _head(q_ptr, batch, seq_len, num_heads, head, key_dim)
    k_ptr = _head(k_ptr, batch, seq_len, num_kv_heads, kv_head, key_dim)
    v_ptr = _head(v_ptr, batch, seq_len, num_kv_heads, kv_head, value_dim)
    out_ptr = _head(out_ptr, batch, seq_len, num_heads, head, value_dim)
    log2_decay = _log2_decay(decay_ptr, row, has_decay)
    slot = row * num_chunks + chunk * causal

    first = chunk * CHUNK
    out = tl.zeros([CHUNK, BLOCK_V], dtype=tl.float32)
    total = tl.zeros([CHUNK], dtype=tl.float32)
    if causal:
        phi_q = _features(q_ptr, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K)
        phi_k = _features(k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K)
        v = _load(v_ptr, first, seq_len, num_kv_heads, value_dim, first_value, CHUNK, BLOCK_V)
        weights = tl.dot(phi_q.to(v.dtype), tl.trans(phi_k.to(v.dtype)), input_precision=PRECISION)
        weights = _hide_and_decay(weights, _distance(CHUNK), log2_decay)
        total += tl.sum(weights, 1)
        out = tl.dot(weights.to(v.dtype), v, out, input_precision=PRECISION)
    aged = _features(q_ptr, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K)
    aged *= _age(log2_decay, CHUNK)[:, None]
    kv = _load_state(states_ptr, slot, key_dim, value_dim, first_value, BLOCK_K, BLOCK_V)
    k_sum = _load_sum(k_sums_ptr, slot, key_dim, BLOCK_K)
    out = tl.dot(aged.to(kv.dtype), kv, out, input_precision=PRECISION)
    total += tl.sum(aged * k_sum[None, :], 1)
    factor = tl.where(normalize != 0, 1.0 / (total + eps), scale)
    out *= factor[:, None]
    _store(out_ptr, out, first, seq_len, num_heads, value_dim, first_value, CHUNK, BLOCK_V)
    tokens = first + tl.arange(0, CHUNK)
    if first_value == 0:
        tl.store(factor_ptr + row.to(tl.int64) * seq_len + tokens, factor, mask=tokens < seq_len)


@triton.jit
def linear_attention_bwd_sums(
    out_ptr, factor_ptr, grad_out_ptr, grad_sums_ptr, seq_len, num_heads, value_dim, normalize,
    CHUNK: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The gradient of the sum of each token's weights, of one chunk of one head; 0 at its end."""
    num_chunks = tl.maximum(tl.cdiv(seq_len, CHUNK), 1)
    _, chunk, row, batch, head = _locate(1, num_chunks, num_heads, BLOCK_V)
    out_ptr = _head(out_ptr, batch, seq_len, num_heads, head, value_dim)
    grad_out_ptr = _head(grad_out_ptr, batch, seq_len, num_heads, head, value_dim)
    first = chunk * CHUNK
    tokens = first + tl.arange(0, CHUNK)
    mask = tokens < seq_len
    factor = tl.load(factor_ptr + row.to(tl.int64) * seq_len + tokens, mask=mask, other=0.0)
    out = _load(out_ptr, first, seq_len, num_heads, value_dim, 0, CHUNK, BLOCK_V)
    grad_out = _load(grad_out_ptr, first, seq_len, num_heads, value_dim, 0, CHUNK, BLOCK_V)
    total = -factor * tl.sum(out.to(tl.float32) * grad_out.to(tl.float32), 1)
    total = tl.where(normalize != 0, total, 0.0)
    tl.store(grad_sums_ptr + row.to(tl.int64) * num_chunks * CHUNK + tokens, total)


@triton.jit
def _load_grad(
    grad_out_ptr, factor_ptr, row, first, seq_len, num_heads, value_dim, first_value,
    CHUNK: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The gradients of the weighted sums of the values."""
    tokens = first + tl.arange(0, CHUNK)
    factor_ptr += row.to(tl.int64) * seq_len
    factor = tl.load(factor_ptr + tokens, mask=tokens < seq_len, other=0.0)
    grad = _load(grad_out_ptr, first, seq_len, num_heads, value_dim, first_value, CHUNK, BLOCK_V)
    return (grad.to(tl.float32) * factor[:, None]).to(grad.dtype)


@triton.jit
def _load_grad_sums(ptr, row, first, num_chunks, CHUNK: tl.constexpr):
    """The gradients of the sums of the weights."""
    return tl.load(ptr + row.to(tl.int64) * num_chunks * CHUNK + first + tl.arange(0, CHUNK))


@triton.jit
def linear_attention_bwd_states(
    q_ptr, decay_ptr, factor_ptr, grad_out_ptr, grad_final_kv_ptr, grad_final_k_sum_ptr,
    grad_states_ptr, grad_k_sums_ptr, grad_sums_ptr, grad_initial_kv_ptr, grad_initial_k_sum_ptr,
    seq_len, num_heads, key_dim, value_dim, causal, feature_map, has_decay, has_grad_final,
    wants_initial, PRECISION: tl.constexpr, CHUNK: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The gradients of the states after each chunk of one head, of a block of the value channels.

    Unless causal, of the last state only: the one that all tokens read.
    """
    first_value, _, row, batch, head = _locate(value_dim, 1, num_heads, BLOCK_V)
    q_ptr = _head(q_ptr, batch, seq_len, num_heads, head, key_dim)
    grad_out_ptr = _head(grad_out_ptr, batch, seq_len, num_heads, head, value_dim)
    log2_decay = _log2_decay(decay_ptr, row, has_decay)

    kv, k_sum = _start(
        grad_final_kv_ptr, grad_final_k_sum_ptr, row, key_dim, value_dim, first_value,
        has_grad_final, BLOCK_K, BLOCK_V,
    )  # fmt: skip

    num_chunks = tl.maximum(tl.cdiv(seq_len, CHUNK), 1)
    for step in tl.range(0, num_chunks):
        chunk = num_chunks - 1 - step
        _store_slot(
            grad_states_ptr, grad_k_sums_ptr, kv, k_sum, row * num_chunks + chunk, key_dim,
            value_dim, first_value, causal, BLOCK_K, BLOCK_V,
        )  # fmt: skip
        first = chunk * CHUNK
        count = tl.minimum(seq_len - first, CHUNK)
        aged = _features(q_ptr, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K)
        aged *= _age(log2_decay, CHUNK)[:, None]
        grad = _load_grad(
            grad_out_ptr, factor_ptr, row, first, seq_len, num_heads, value_dim, first_value, CHUNK,
            BLOCK_V,
        )  # fmt: skip
        grad_sums = _load_grad_sums(grad_sums_ptr, row, first, num_chunks, CHUNK)
        power = tl.exp2(log2_decay * count)
        kv = tl.dot(tl.trans(aged.to(grad.dtype)), grad, kv * power, input_precision=PRECISION)
        k_sum = k_sum * power + tl.sum(aged * grad_sums[:, None], 0)

    _store_slot(
        grad_states_ptr, grad_k_sums_ptr, kv, k_sum, row * num_chunks, key_dim, value_dim,
        first_value, 1 - causal, BLOCK_K, BLOCK_V,
    )  # fmt: skip
    _store_slot(
        grad_initial_kv_ptr, grad_initial_k_sum_ptr, kv, k_sum, row, key_dim, value_dim,
        first_value, wants_initial, BLOCK_K, BLOCK_V,
    )  # fmt: skip


@triton.jit
def linear_attention_bwd_v(
    q_ptr, k_ptr, decay_ptr, factor_ptr, grad_out_ptr, grad_states_ptr, grad_v_ptr, seq_len,
    num_heads, num_kv_heads, key_dim, value_dim, causal, feature_map, has_decay,
    PRECISION: tl.constexpr, CHUNK: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """grad_v of one chunk of one key head, of a block of the value channels."""
    num_chunks = tl.maximum(tl.cdiv(seq_len, CHUNK), 1)
    first_value, chunk, _, batch, kv_head = _locate(value_dim, num_chunks, num_kv_heads, BLOCK_V)
    k_ptr = _head(k_ptr, batch, seq_len, num_kv_heads, kv_head, key_dim)
    first = chunk * CHUNK
    count = tl.minimum(seq_len - first, CHUNK)
    grad_v = tl.zeros([CHUNK, BLOCK_V], dtype=tl.float32)
    group = num_heads // num_kv_heads
    for head in tl.range(kv_head * group, (kv_head + 1) * group):
        row = batch * num_heads + head
        log2_decay = _log2_decay(decay_ptr, row, has_decay)
        if causal:
            q_rows = _head(q_ptr, batch, seq_len, num_heads, head, key_dim)
            grad_rows = _head(grad_out_ptr, batch, seq_len, num_heads, head, value_dim)
            phi_q = _features(
                q_rows, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K
            )
            phi_k = _features(
                k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K
            )
            # Transposed, [key, query]: the product below takes it as it is.
            weights = tl.dot(
                phi_k.to(k_ptr.dtype.element_ty), tl.trans(phi_q.to(k_ptr.dtype.element_ty)),
                input_precision=PRECISION,
            )  # fmt: skip
            weights = _hide_and_decay(weights, -_distance(CHUNK), log2_decay)
            grad = _load_grad(
                grad_rows, factor_ptr, row, first, seq_len, num_heads, value_dim, first_value,
                CHUNK, BLOCK_V,
            )  # fmt: skip
            grad_v = tl.dot(weights.to(grad.dtype), grad, grad_v, input_precision=PRECISION)
        slot = row * num_chunks + chunk * causal
        kv = _load_state(grad_states_ptr, slot, key_dim, value_dim, first_value, BLOCK_K, BLOCK_V)
        rested = _features(
            k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K
        )
        rested *= _rest(log2_decay, count, CHUNK)[:, None]
        grad_v = tl.dot(rested.to(kv.dtype), kv, grad_v, input_precision=PRECISION)
    grad_v_ptr = _head(grad_v_ptr, batch, seq_len, num_kv_heads, kv_head, value_dim)
    _store(grad_v_ptr, grad_v, first, seq_len, num_kv_heads, value_dim, first_value, CHUNK, BLOCK_V)


@triton.jit
def linear_attention_bwd_k(
    q_ptr, k_ptr, v_ptr, decay_ptr, factor_ptr, grad_out_ptr, grad_states_ptr, grad_k_sums_ptr,
    grad_sums_ptr, decay_parts_ptr, grad_k_ptr, seq_len, num_heads, num_kv_heads, key_dim,
    value_dim, causal, feature_map, has_decay, wants_decay, PRECISION: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """grad_k of one chunk of one key head."""
    num_chunks = tl.maximum(tl.cdiv(seq_len, CHUNK), 1)
    _, chunk, _, batch, kv_head = _locate(1, num_chunks, num_kv_heads, BLOCK_V)
    k_ptr = _head(k_ptr, batch, seq_len, num_kv_heads, kv_head, key_dim)
    v_ptr = _head(v_ptr, batch, seq_len, num_kv_heads, kv_head, value_dim)
    first = chunk * CHUNK
    count = tl.minimum(seq_len - first, CHUNK)
    grad_k = tl.zeros([CHUNK, BLOCK_K], dtype=tl.float32)
    group = num_heads // num_kv_heads
    for head in tl.range(kv_head * group, (kv_head + 1) * group):
        row = batch * num_heads + head
        log2_decay = _log2_decay(decay_ptr, row, has_decay)
        slot = row * num_chunks + chunk * causal
        grad_rows = _head(grad_out_ptr, batch, seq_len, num_heads, head, value_dim)
        from_state = tl.zeros([CHUNK, BLOCK_K], dtype=tl.float32)
        # Transposed, [key, query]: the product below takes it as it is.
        grad_weights = tl.zeros([CHUNK, CHUNK], dtype=tl.float32)
        for value in tl.range(0, value_dim, BLOCK_V):
            v = _load(v_ptr, first, seq_len, num_kv_heads, value_dim, value, CHUNK, BLOCK_V)
            kv = _load_state(grad_states_ptr, slot, key_dim, value_dim, value, BLOCK_K, BLOCK_V)
            from_state = tl.dot(v, tl.trans(kv), from_state, input_precision=PRECISION)
            if causal:
                grad = _load_grad(
                    grad_rows, factor_ptr, row, first, seq_len, num_heads, value_dim, value, CHUNK,
                    BLOCK_V,
                )  # fmt: skip
                grad_weights = tl.dot(v, tl.trans(grad), grad_weights, input_precision=PRECISION)
        from_state += _load_sum(grad_k_sums_ptr, slot, key_dim, BLOCK_K)[None, :]
        from_state *= _rest(log2_decay, count, CHUNK)[:, None]
        grad_k += from_state
        if wants_decay:
            phi_k = _features(
                k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K
            )
            left = count - 1 - tl.arange(0, CHUNK)
            part = tl.sum(tl.sum(from_state * phi_k, 1) * left)
            tl.store(decay_parts_ptr + 2 * (row * num_chunks + chunk).to(tl.int64), part)
        if causal:
            grad_weights += _load_grad_sums(grad_sums_ptr, row, first, num_chunks, CHUNK)[None, :]
            grad_weights = _hide_and_decay(grad_weights, -_distance(CHUNK), log2_decay)
            q_rows = _head(q_ptr, batch, seq_len, num_heads, head, key_dim)
            phi_q = _features(
                q_rows, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K
            )
            grad_k = tl.dot(
                grad_weights.to(q_ptr.dtype.element_ty), phi_q.to(q_ptr.dtype.element_ty), grad_k,
                input_precision=PRECISION,
            )  # fmt: skip
    features = _features(k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K)
    grad_k *= _slopes(features, feature_map)
    grad_k_ptr = _head(grad_k_ptr, batch, seq_len, num_kv_heads, kv_head, key_dim)
    _store(grad_k_ptr, grad_k, first, seq_len, num_kv_heads, key_dim, 0, CHUNK, BLOCK_K)


@triton.jit
def linear_attention_bwd_q(
    q_ptr, k_ptr, v_ptr, decay_ptr, factor_ptr, grad_out_ptr, states_ptr, k_sums_ptr,
    grad_states_ptr, grad_k_sums_ptr, grad_sums_ptr, decay_parts_ptr, grad_q_ptr, seq_len,
    num_heads, num_kv_heads, key_dim, value_dim, causal, feature_map, has_decay, wants_decay,
    PRECISION: tl.constexpr, CHUNK: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """grad_q of one chunk of one head."""
    num_chunks = tl.maximum(tl.cdiv(seq_len, CHUNK), 1)
    _, chunk, row, batch, head = _locate(1, num_chunks, num_heads, BLOCK_V)
    kv_head = head // (num_heads // num_kv_heads)
    q_ptr = _head(q_ptr, batch, seq_len, num_heads, head, key_dim)
    k_ptr = _head(k_ptr, batch, seq_len, num_kv_heads, kv_head, key_dim)
    v_ptr = _head(v_ptr, batch, seq_len, num_kv_heads, kv_head, value_dim)
    grad_out_ptr = _head(grad_out_ptr, batch, seq_len, num_heads, head, value_dim)
    log2_decay = _log2_decay(decay_ptr, row, has_decay)
    slot = row * num_chunks + chunk * causal

    first = chunk * CHUNK
    count = tl.minimum(seq_len - first, CHUNK)
    grad_q = tl.zeros([CHUNK, BLOCK_K], dtype=tl.float32)
    grad_weights = tl.zeros([CHUNK, CHUNK], dtype=tl.float32)
    lost = tl.zeros([BLOCK_K], dtype=tl.float32)
    for value in tl.range(0, value_dim, BLOCK_V):
        grad = _load_grad(
            grad_out_ptr, factor_ptr, row, first, seq_len, num_heads, value_dim, value, CHUNK,
            BLOCK_V,
        )  # fmt: skip
        kv = _load_state(states_ptr, slot, key_dim, value_dim, value, BLOCK_K, BLOCK_V)
        grad_q = tl.dot(grad, tl.trans(kv), grad_q, input_precision=PRECISION)
        if wants_decay:
            grad_kv = _load_state(
                grad_states_ptr, slot, key_dim, value_dim, value, BLOCK_K, BLOCK_V
            )
            lost += tl.sum(kv.to(tl.float32) * grad_kv.to(tl.float32), 1)
        if causal:
            v = _load(v_ptr, first, seq_len, num_kv_heads, value_dim, value, CHUNK, BLOCK_V)
            grad_weights = tl.dot(grad, tl.trans(v), grad_weights, input_precision=PRECISION)
    grad_sums = _load_grad_sums(grad_sums_ptr, row, first, num_chunks, CHUNK)
    k_sum = _load_sum(k_sums_ptr, slot, key_dim, BLOCK_K)
    grad_q += grad_sums[:, None] * k_sum[None, :]
    grad_q *= _age(log2_decay, CHUNK)[:, None]
    grad_weights += grad_sums[:, None]
    if wants_decay:
        lost += k_sum * _load_sum(grad_k_sums_ptr, slot, key_dim, BLOCK_K)
        q = _features(q_ptr, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K)
        k = _features(k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K)
        part = tl.sum(tl.sum(grad_q * q, 1) * (tl.arange(0, CHUNK) + 1))
        part += count * tl.exp2(log2_decay * count) * tl.sum(lost)
        weights = tl.dot(
            q.to(q_ptr.dtype.element_ty), tl.trans(k.to(q_ptr.dtype.element_ty)),
            input_precision=PRECISION,
        )  # fmt: skip
        weights = _hide_and_decay(weights, _distance(CHUNK), log2_decay)
        part += tl.sum(tl.sum(_distance(CHUNK) * weights * grad_weights, 1))
        tl.store(decay_parts_ptr + 2 * (row * num_chunks + chunk).to(tl.int64) + 1, part)
    if causal:
        phi_k = _features(k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K)
        grad_weights = _hide_and_decay(grad_weights, _distance(CHUNK), log2_decay)
        grad_q = tl.dot(
            grad_weights.to(k_ptr.dtype.element_ty), phi_k.to(k_ptr.dtype.element_ty), grad_q,
            input_precision=PRECISION,
        )  # fmt: skip
    phi_q = _features(q_ptr, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K)
    grad_q *= _slopes(phi_q, feature_map)
    grad_q_ptr = _head(grad_q_ptr, batch, seq_len, num_heads, head, key_dim)
    _store(grad_q_ptr, grad_q, first, seq_len, num_heads, key_dim, 0, CHUNK, BLOCK_K)


@triton.jit
def linear_attention_bwd_decay(
    decay_ptr, decay_parts_ptr, grad_decay_ptr, num_parts, CHUNK: tl.constexpr
):
    """The gradient of the decay of one head, from its parts."""
    row = tl.program_id(0)
    decay_parts_ptr += row.to(tl.int64) * num_parts
    total = tl.zeros([CHUNK], dtype=tl.float32)
    for first in tl.range(0, num_parts, CHUNK):
        parts = first + tl.arange(0, CHUNK)
        total += tl.load(decay_parts_ptr + parts, mask=parts < num_parts, other=0.0)
    tl.store(grad_decay_ptr + row, tl.sum(total) / tl.load(decay_ptr + row))


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
    block_v: int
    num_warps: int
    num_stages: int


# As CHUNK in contract.py.
_CHUNK = 64

# By kernel, width of the elements in bytes and BLOCK_D, which is BLOCK_K. Chosen from what the
# compiler reports, not tuned on hardware: blocks with few or no spills.
_STATES_BLOCKS = {
    (2, 64): _Blocks(32, 4, 3),
    (2, 128): _Blocks(32, 8, 3),
    (4, 64): _Blocks(32, 8, 2),
    (4, 128): _Blocks(32, 8, 2),
}
_FORWARD_BLOCKS = {
    (2, 64): _Blocks(64, 4, 1),
    (2, 128): _Blocks(128, 8, 1),
    (4, 64): _Blocks(32, 8, 1),
    (4, 128): _Blocks(32, 8, 1),
}
_GRAD_V_BLOCKS = {
    (2, 64): _Blocks(64, 8, 1),
    (2, 128): _Blocks(128, 8, 1),
    (4, 64): _Blocks(32, 8, 1),
    (4, 128): _Blocks(32, 8, 1),
}
_GRAD_QK_BLOCKS = {
    (2, 64): _Blocks(64, 8, 1),
    (2, 128): _Blocks(64, 8, 1),
    (4, 64): _Blocks(16, 8, 1),
    (4, 128): _Blocks(16, 8, 1),
}
_SUMS_BLOCKS = {(width, d): _Blocks(d, 4, 1) for width in (2, 4) for d in (64, 128)}
_BLOCKS = {
    linear_attention_states: _STATES_BLOCKS,
    linear_attention_fwd: _FORWARD_BLOCKS,
    linear_attention_bwd_sums: _SUMS_BLOCKS,
    linear_attention_bwd_states: _STATES_BLOCKS,
    linear_attention_bwd_v: _GRAD_V_BLOCKS,
    linear_attention_bwd_k: _GRAD_QK_BLOCKS,
    linear_attention_bwd_q: _GRAD_QK_BLOCKS,
}
_DTYPES = {"float16": ("fp16", 2), "bfloat16": ("bf16", 2), "float32": ("fp32", 4)}

# Pointers to arrays in the dtype of the inputs; the others point to float32.
_TENSORS = frozenset(
    f"{prefix}{name}_ptr" for prefix in ("", "grad_") for name in ("q", "k", "v", "out", "states")
)
_FLOATS = frozenset({"eps", "scale"})
_DIMENSIONS = frozenset({"key_dim", "value_dim"})  # Rows of 16-byte vectors.


def _type(name: str, short_type: str) -> str:
    if name.endswith("_ptr"):
        return f"*{short_type if name in _TENSORS else 'fp32'}:16"
    if name in _FLOATS:
        return "fp32"
    return "i32:8" if name in _DIMENSIONS else "i32"


def _variant(kernel: Any, name: str, dtype: str, block_d: int, blocks: _Blocks) -> Variant:
    constants = {
        # Three TF32 products give float32's precision on tensor cores.
        "PRECISION": "tf32x3" if dtype == "float32" else "ieee",
        "CHUNK": _CHUNK,
        "BLOCK_K": block_d,
        "BLOCK_V": blocks.block_v,
    }
    names = kernel.arg_names
    return Variant(
        name=name,
        kernel=kernel,
        signature={n: _type(n, _DTYPES[dtype][0]) for n in names if n not in constants},
        constexprs={n: constants[n] for n in names if n in constants},
        num_warps=blocks.num_warps,
        num_stages=blocks.num_stages,
    )


VARIANTS = (
    *(
        _variant(
            kernel,
            f"{kernel.__name__}_{dtype}_d{block_d}",
            dtype,
            block_d,
            blocks[_DTYPES[dtype][1], block_d],
        )
        for kernel, blocks in _BLOCKS.items()
        for dtype in _DTYPES
        for block_d in (64, 128)
    ),
    _variant(
        linear_attention_bwd_decay,
        linear_attention_bwd_decay.__name__,
        "float32",
        0,
        _Blocks(0, 1, 1),
    ),
)

# float16 is as bfloat16. bwd_decay is of one kind.
SAMPLE = tuple(
    variant
    for variant in VARIANTS
    if variant.name.endswith(("bfloat16_d128", "float32_d64", "bwd_decay"))
)
