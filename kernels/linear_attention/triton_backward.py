"""Linear attention in Triton, backward: from the end, as forward from the start.

First come the gradients of the states after all chunks, then those of the inputs, of all chunks at
once. Each gradient is summed up by one program, in a fixed order.
"""

import triton
import triton.language as tl

from kernels.linear_attention.triton_tiles import (
    age_powers,
    distances,
    feature_slopes,
    head_rows,
    hide_and_decay,
    load_features,
    load_log2_decay,
    load_state,
    load_sum,
    load_tokens,
    locate,
    rest_powers,
    start_state,
    store_slot,
    store_tokens,
)


@triton.jit
def linear_attention_bwd_sums(
    out_ptr, factor_ptr, grad_out_ptr, grad_sums_ptr, seq_len, num_heads, value_dim, normalize,
    CHUNK: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The gradient of the sum of each token's weights, of one chunk of one head; 0 at its end."""
    num_chunks = tl.maximum(tl.cdiv(seq_len, CHUNK), 1)
    _, chunk, row, batch, head = locate(1, num_chunks, num_heads, BLOCK_V)
    out_ptr = head_rows(out_ptr, batch, seq_len, num_heads, head, value_dim)
    grad_out_ptr = head_rows(grad_out_ptr, batch, seq_len, num_heads, head, value_dim)
    first = chunk * CHUNK
    tokens = first + tl.arange(0, CHUNK)
    mask = tokens < seq_len
    factor = tl.load(factor_ptr + row.to(tl.int64) * seq_len + tokens, mask=mask, other=0.0)
    out = load_tokens(out_ptr, first, seq_len, num_heads, value_dim, 0, CHUNK, BLOCK_V)
    grad_out = load_tokens(grad_out_ptr, first, seq_len, num_heads, value_dim, 0, CHUNK, BLOCK_V)
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
    grad = load_tokens(
        grad_out_ptr, first, seq_len, num_heads, value_dim, first_value, CHUNK, BLOCK_V
    )
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
    first_value, _, row, batch, head = locate(value_dim, 1, num_heads, BLOCK_V)
    q_ptr = head_rows(q_ptr, batch, seq_len, num_heads, head, key_dim)
    grad_out_ptr = head_rows(grad_out_ptr, batch, seq_len, num_heads, head, value_dim)
    log2_decay = load_log2_decay(decay_ptr, row, has_decay)

    kv, k_sum = start_state(
        grad_final_kv_ptr, grad_final_k_sum_ptr, row, key_dim, value_dim, first_value,
        has_grad_final, BLOCK_K, BLOCK_V,
    )  # fmt: skip

    num_chunks = tl.maximum(tl.cdiv(seq_len, CHUNK), 1)
    for step in tl.range(0, num_chunks):
        chunk = num_chunks - 1 - step
        store_slot(
            grad_states_ptr, grad_k_sums_ptr, kv, k_sum, row * num_chunks + chunk, key_dim,
            value_dim, first_value, causal, BLOCK_K, BLOCK_V,
        )  # fmt: skip
        first = chunk * CHUNK
        count = tl.minimum(seq_len - first, CHUNK)
        aged = load_features(q_ptr, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K)
        aged *= age_powers(log2_decay, CHUNK)[:, None]
        grad = _load_grad(
            grad_out_ptr, factor_ptr, row, first, seq_len, num_heads, value_dim, first_value, CHUNK,
            BLOCK_V,
        )  # fmt: skip
        grad_sums = _load_grad_sums(grad_sums_ptr, row, first, num_chunks, CHUNK)
        power = tl.exp2(log2_decay * count)
        kv = tl.dot(tl.trans(aged.to(grad.dtype)), grad, kv * power, input_precision=PRECISION)
        k_sum = k_sum * power + tl.sum(aged * grad_sums[:, None], 0)

    store_slot(
        grad_states_ptr, grad_k_sums_ptr, kv, k_sum, row * num_chunks, key_dim, value_dim,
        first_value, 1 - causal, BLOCK_K, BLOCK_V,
    )  # fmt: skip
    store_slot(
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
    first_value, chunk, _, batch, kv_head = locate(value_dim, num_chunks, num_kv_heads, BLOCK_V)
    k_ptr = head_rows(k_ptr, batch, seq_len, num_kv_heads, kv_head, key_dim)
    first = chunk * CHUNK
    count = tl.minimum(seq_len - first, CHUNK)
    grad_v = tl.zeros([CHUNK, BLOCK_V], dtype=tl.float32)
    group = num_heads // num_kv_heads
    for head in tl.range(kv_head * group, (kv_head + 1) * group):
        row = batch * num_heads + head
        log2_decay = load_log2_decay(decay_ptr, row, has_decay)
        if causal:
            q_rows = head_rows(q_ptr, batch, seq_len, num_heads, head, key_dim)
            grad_rows = head_rows(grad_out_ptr, batch, seq_len, num_heads, head, value_dim)
            phi_q = load_features(
                q_rows, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K
            )
            phi_k = load_features(
                k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K
            )
            # Transposed, [key, query]: the product below takes it as it is.
            weights = tl.dot(
                phi_k.to(k_ptr.dtype.element_ty), tl.trans(phi_q.to(k_ptr.dtype.element_ty)),
                input_precision=PRECISION,
            )  # fmt: skip
            weights = hide_and_decay(weights, -distances(CHUNK), log2_decay)
            grad = _load_grad(
                grad_rows, factor_ptr, row, first, seq_len, num_heads, value_dim, first_value,
                CHUNK, BLOCK_V,
            )  # fmt: skip
            grad_v = tl.dot(weights.to(grad.dtype), grad, grad_v, input_precision=PRECISION)
        slot = row * num_chunks + chunk * causal
        kv = load_state(grad_states_ptr, slot, key_dim, value_dim, first_value, BLOCK_K, BLOCK_V)
        rested = load_features(
            k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K
        )
        rested *= rest_powers(log2_decay, count, CHUNK)[:, None]
        grad_v = tl.dot(rested.to(kv.dtype), kv, grad_v, input_precision=PRECISION)
    grad_v_ptr = head_rows(grad_v_ptr, batch, seq_len, num_kv_heads, kv_head, value_dim)
    store_tokens(
        grad_v_ptr, grad_v, first, seq_len, num_kv_heads, value_dim, first_value, CHUNK, BLOCK_V
    )


@triton.jit
def linear_attention_bwd_k(
    q_ptr, k_ptr, v_ptr, decay_ptr, factor_ptr, grad_out_ptr, grad_states_ptr, grad_k_sums_ptr,
    grad_sums_ptr, decay_parts_ptr, grad_k_ptr, seq_len, num_heads, num_kv_heads, key_dim,
    value_dim, causal, feature_map, has_decay, wants_decay, PRECISION: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """grad_k of one chunk of one key head."""
    num_chunks = tl.maximum(tl.cdiv(seq_len, CHUNK), 1)
    _, chunk, _, batch, kv_head = locate(1, num_chunks, num_kv_heads, BLOCK_V)
    k_ptr = head_rows(k_ptr, batch, seq_len, num_kv_heads, kv_head, key_dim)
    v_ptr = head_rows(v_ptr, batch, seq_len, num_kv_heads, kv_head, value_dim)
    first = chunk * CHUNK
    count = tl.minimum(seq_len - first, CHUNK)
    grad_k = tl.zeros([CHUNK, BLOCK_K], dtype=tl.float32)
    group = num_heads // num_kv_heads
    for head in tl.range(kv_head * group, (kv_head + 1) * group):
        row = batch * num_heads + head
        log2_decay = load_log2_decay(decay_ptr, row, has_decay)
        slot = row * num_chunks + chunk * causal
        grad_rows = head_rows(grad_out_ptr, batch, seq_len, num_heads, head, value_dim)
        from_state = tl.zeros([CHUNK, BLOCK_K], dtype=tl.float32)
        # Transposed, [key, query]: the product below takes it as it is.
        grad_weights = tl.zeros([CHUNK, CHUNK], dtype=tl.float32)
        for value in tl.range(0, value_dim, BLOCK_V):
            v = load_tokens(v_ptr, first, seq_len, num_kv_heads, value_dim, value, CHUNK, BLOCK_V)
            kv = load_state(grad_states_ptr, slot, key_dim, value_dim, value, BLOCK_K, BLOCK_V)
            from_state = tl.dot(v, tl.trans(kv), from_state, input_precision=PRECISION)
            if causal:
                grad = _load_grad(
                    grad_rows, factor_ptr, row, first, seq_len, num_heads, value_dim, value, CHUNK,
                    BLOCK_V,
                )  # fmt: skip
                grad_weights = tl.dot(v, tl.trans(grad), grad_weights, input_precision=PRECISION)
        from_state += load_sum(grad_k_sums_ptr, slot, key_dim, BLOCK_K)[None, :]
        from_state *= rest_powers(log2_decay, count, CHUNK)[:, None]
        grad_k += from_state
        if wants_decay:
            phi_k = load_features(
                k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K
            )
            left = count - 1 - tl.arange(0, CHUNK)
            part = tl.sum(tl.sum(from_state * phi_k, 1) * left)
            tl.store(decay_parts_ptr + 2 * (row * num_chunks + chunk).to(tl.int64), part)
        if causal:
            grad_weights += _load_grad_sums(grad_sums_ptr, row, first, num_chunks, CHUNK)[None, :]
            grad_weights = hide_and_decay(grad_weights, -distances(CHUNK), log2_decay)
            q_rows = head_rows(q_ptr, batch, seq_len, num_heads, head, key_dim)
            phi_q = load_features(
                q_rows, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K
            )
            grad_k = tl.dot(
                grad_weights.to(q_ptr.dtype.element_ty), phi_q.to(q_ptr.dtype.element_ty), grad_k,
                input_precision=PRECISION,
            )  # fmt: skip
    features = load_features(
        k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K
    )
    grad_k *= feature_slopes(features, feature_map)
    grad_k_ptr = head_rows(grad_k_ptr, batch, seq_len, num_kv_heads, kv_head, key_dim)
    store_tokens(grad_k_ptr, grad_k, first, seq_len, num_kv_heads, key_dim, 0, CHUNK, BLOCK_K)


@triton.jit
def linear_attention_bwd_q(
    q_ptr, k_ptr, v_ptr, decay_ptr, factor_ptr, grad_out_ptr, states_ptr, k_sums_ptr,
    grad_states_ptr, grad_k_sums_ptr, grad_sums_ptr, decay_parts_ptr, grad_q_ptr, seq_len,
    num_heads, num_kv_heads, key_dim, value_dim, causal, feature_map, has_decay, wants_decay,
    PRECISION: tl.constexpr, CHUNK: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """grad_q of one chunk of one head."""
    num_chunks = tl.maximum(tl.cdiv(seq_len, CHUNK), 1)
    _, chunk, row, batch, head = locate(1, num_chunks, num_heads, BLOCK_V)
    kv_head = head // (num_heads // num_kv_heads)
    q_ptr = head_rows(q_ptr, batch, seq_len, num_heads, head, key_dim)
    k_ptr = head_rows(k_ptr, batch, seq_len, num_kv_heads, kv_head, key_dim)
    v_ptr = head_rows(v_ptr, batch, seq_len, num_kv_heads, kv_head, value_dim)
    grad_out_ptr = head_rows(grad_out_ptr, batch, seq_len, num_heads, head, value_dim)
    log2_decay = load_log2_decay(decay_ptr, row, has_decay)
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
        kv = load_state(states_ptr, slot, key_dim, value_dim, value, BLOCK_K, BLOCK_V)
        grad_q = tl.dot(grad, tl.trans(kv), grad_q, input_precision=PRECISION)
        if wants_decay:
            grad_kv = load_state(grad_states_ptr, slot, key_dim, value_dim, value, BLOCK_K, BLOCK_V)
            lost += tl.sum(kv.to(tl.float32) * grad_kv.to(tl.float32), 1)
        if causal:
            v = load_tokens(v_ptr, first, seq_len, num_kv_heads, value_dim, value, CHUNK, BLOCK_V)
            grad_weights = tl.dot(grad, tl.trans(v), grad_weights, input_precision=PRECISION)
    grad_sums = _load_grad_sums(grad_sums_ptr, row, first, num_chunks, CHUNK)
    k_sum = load_sum(k_sums_ptr, slot, key_dim, BLOCK_K)
    grad_q += grad_sums[:, None] * k_sum[None, :]
    grad_q *= age_powers(log2_decay, CHUNK)[:, None]
    grad_weights += grad_sums[:, None]
    if wants_decay:
        lost += k_sum * load_sum(grad_k_sums_ptr, slot, key_dim, BLOCK_K)
        q = load_features(q_ptr, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K)
        k = load_features(k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K)
        part = tl.sum(tl.sum(grad_q * q, 1) * (tl.arange(0, CHUNK) + 1))
        part += count * tl.exp2(log2_decay * count) * tl.sum(lost)
        weights = tl.dot(
            q.to(q_ptr.dtype.element_ty), tl.trans(k.to(q_ptr.dtype.element_ty)),
            input_precision=PRECISION,
        )  # fmt: skip
        weights = hide_and_decay(weights, distances(CHUNK), log2_decay)
        part += tl.sum(tl.sum(distances(CHUNK) * weights * grad_weights, 1))
        tl.store(decay_parts_ptr + 2 * (row * num_chunks + chunk).to(tl.int64) + 1, part)
    if causal:
        phi_k = load_features(
            k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K
        )
        grad_weights = hide_and_decay(grad_weights, distances(CHUNK), log2_decay)
        grad_q = tl.dot(
            grad_weights.to(k_ptr.dtype.element_ty), phi_k.to(k_ptr.dtype.element_ty), grad_q,
            input_precision=PRECISION,
        )  # fmt: skip
    phi_q = load_features(q_ptr, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K)
    grad_q *= feature_slopes(phi_q, feature_map)
    grad_q_ptr = head_rows(grad_q_ptr, batch, seq_len, num_heads, head, key_dim)
    store_tokens(grad_q_ptr, grad_q, first, seq_len, num_heads, key_dim, 0, CHUNK, BLOCK_K)


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
