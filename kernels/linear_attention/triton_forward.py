"""Linear attention in Triton, forward: the states before all chunks, then all chunks at once."""

import triton
import triton.language as tl

from kernels.linear_attention.triton_tiles import (
    age_powers,
    distances,
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
def linear_attention_states(
    k_ptr, v_ptr, decay_ptr, initial_kv_ptr, initial_k_sum_ptr, states_ptr, k_sums_ptr,
    final_kv_ptr, final_k_sum_ptr, seq_len, num_heads, num_kv_heads, key_dim, value_dim, causal,
    feature_map, has_decay, has_initial, has_final, PRECISION: tl.constexpr, CHUNK: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The states of one head, of a block of the value channels; unless causal, the last only."""
    first_value, _, row, batch, head = locate(value_dim, 1, num_heads, BLOCK_V)
    kv_head = head // (num_heads // num_kv_heads)
    k_ptr = head_rows(k_ptr, batch, seq_len, num_kv_heads, kv_head, key_dim)
    v_ptr = head_rows(v_ptr, batch, seq_len, num_kv_heads, kv_head, value_dim)
    log2_decay = load_log2_decay(decay_ptr, row, has_decay)

    kv, k_sum = start_state(
        initial_kv_ptr, initial_k_sum_ptr, row, key_dim, value_dim, first_value, has_initial,
        BLOCK_K, BLOCK_V,
    )  # fmt: skip

    num_chunks = tl.maximum(tl.cdiv(seq_len, CHUNK), 1)
    for chunk in tl.range(0, num_chunks):
        store_slot(
            states_ptr, k_sums_ptr, kv, k_sum, row * num_chunks + chunk, key_dim, value_dim,
            first_value, causal, BLOCK_K, BLOCK_V,
        )  # fmt: skip
        first = chunk * CHUNK
        count = tl.minimum(seq_len - first, CHUNK)
        v = load_tokens(v_ptr, first, seq_len, num_kv_heads, value_dim, first_value, CHUNK, BLOCK_V)
        phi_k = load_features(
            k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K
        )
        phi_k *= rest_powers(log2_decay, count, CHUNK)[:, None]
        power = tl.exp2(log2_decay * count)
        kv = tl.dot(tl.trans(phi_k.to(v.dtype)), v, kv * power, input_precision=PRECISION)
        k_sum = k_sum * power + tl.sum(phi_k, 0)

    store_slot(
        states_ptr, k_sums_ptr, kv, k_sum, row * num_chunks, key_dim, value_dim, first_value,
        1 - causal, BLOCK_K, BLOCK_V,
    )  # fmt: skip
    store_slot(
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
    first_value, chunk, row, batch, head = locate(value_dim, num_chunks, num_heads, BLOCK_V)
    kv_head = head // (num_heads // num_kv_heads)
    q_ptr = head_rows(q_ptr, batch, seq_len, num_heads, head, key_dim)
    k_ptr = head_rows(k_ptr, batch, seq_len, num_kv_heads, kv_head, key_dim)
    v_ptr = head_rows(v_ptr, batch, seq_len, num_kv_heads, kv_head, value_dim)
    out_ptr = head_rows(out_ptr, batch, seq_len, num_heads, head, value_dim)
    log2_decay = load_log2_decay(decay_ptr, row, has_decay)
    slot = row * num_chunks + chunk * causal

    first = chunk * CHUNK
    out = tl.zeros([CHUNK, BLOCK_V], dtype=tl.float32)
    total = tl.zeros([CHUNK], dtype=tl.float32)
    if causal:
        phi_q = load_features(
            q_ptr, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K
        )
        phi_k = load_features(
            k_ptr, first, seq_len, num_kv_heads, key_dim, feature_map, CHUNK, BLOCK_K
        )
        v = load_tokens(v_ptr, first, seq_len, num_kv_heads, value_dim, first_value, CHUNK, BLOCK_V)
        weights = tl.dot(phi_q.to(v.dtype), tl.trans(phi_k.to(v.dtype)), input_precision=PRECISION)
        weights = hide_and_decay(weights, distances(CHUNK), log2_decay)
        total += tl.sum(weights, 1)
        out = tl.dot(weights.to(v.dtype), v, out, input_precision=PRECISION)
    aged = load_features(q_ptr, first, seq_len, num_heads, key_dim, feature_map, CHUNK, BLOCK_K)
    aged *= age_powers(log2_decay, CHUNK)[:, None]
    kv = load_state(states_ptr, slot, key_dim, value_dim, first_value, BLOCK_K, BLOCK_V)
    k_sum = load_sum(k_sums_ptr, slot, key_dim, BLOCK_K)
    out = tl.dot(aged.to(kv.dtype), kv, out, input_precision=PRECISION)
    total += tl.sum(aged * k_sum[None, :], 1)
    factor = tl.where(normalize != 0, 1.0 / (total + eps), scale)
    out *= factor[:, None]
    store_tokens(out_ptr, out, first, seq_len, num_heads, value_dim, first_value, CHUNK, BLOCK_V)
    tokens = first + tl.arange(0, CHUNK)
    if first_value == 0:
        tl.store(factor_ptr + row.to(tl.int64) * seq_len + tokens, factor, mask=tokens < seq_len)
