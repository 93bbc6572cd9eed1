"""What linear attention's Triton kernels read and write: tokens, features, states, and their decay.

Names: a row is one head of one batch row; phi are features; `age`, decay^(i + 1), is what reaches
token i of the state before its chunk; `rest`, decay^(n - 1 - j), is what of token j reaches the
state after its chunk of n tokens. Features are computed again where they are needed again: that
takes less time than the registers to keep them would.
"""

import triton
import triton.language as tl

ELU = tl.constexpr(1)
RELU = tl.constexpr(2)


@triton.jit
def locate(value_dim, num_chunks, num_heads, BLOCK_V: tl.constexpr):
    """Splits the program index: the first value channel, the chunk, the row, batch, head."""
    num_blocks = tl.cdiv(value_dim, BLOCK_V)
    index = tl.program_id(0) // num_blocks
    row = index // num_chunks
    first_value = tl.program_id(0) % num_blocks * BLOCK_V
    return first_value, index % num_chunks, row, row // num_heads, row % num_heads


@triton.jit
def head_rows(ptr, batch, seq_len, num_heads, head, dim):
    """The first row of one head of [batch, seq_len, num_heads, dim]."""
    return ptr + (batch.to(tl.int64) * seq_len * num_heads + head) * dim


@triton.jit
def token_tile(
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
def load_tokens(
    ptr, first, seq_len, num_heads, dim, first_column, ROWS: tl.constexpr, COLS: tl.constexpr
):
    """Tokens of one head, with zeros outside of the array."""
    pointers, mask = token_tile(ptr, first, seq_len, num_heads, dim, first_column, ROWS, COLS)
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def store_tokens(
    ptr, tile, first, seq_len, num_heads, dim, first_column, ROWS: tl.constexpr,
    COLS: tl.constexpr,
):  # fmt: skip
    pointers, mask = token_tile(ptr, first, seq_len, num_heads, dim, first_column, ROWS, COLS)
    tl.store(pointers, tile.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def state_tile(ptr, slot, key_dim, value_dim, first_value, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Addresses and mask of a tile of the kv of one slot of [slots, key_dim, value_dim]."""
    rows = tl.arange(0, ROWS)
    columns = first_value + tl.arange(0, COLS)
    mask = (rows < key_dim)[:, None] & (columns < value_dim)[None, :]
    start = ptr + tl.cast(slot, tl.int64) * key_dim * value_dim
    return start + (rows[:, None] * value_dim + columns[None, :]), mask


@triton.jit
def load_state(ptr, slot, key_dim, value_dim, first_value, ROWS: tl.constexpr, COLS: tl.constexpr):
    pointers, mask = state_tile(ptr, slot, key_dim, value_dim, first_value, ROWS, COLS)
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def load_sum(ptr, slot, key_dim, ROWS: tl.constexpr):
    """The k_sum of one slot of [slots, key_dim]."""
    rows = tl.arange(0, ROWS)
    return tl.load(ptr + tl.cast(slot, tl.int64) * key_dim + rows, mask=rows < key_dim, other=0.0)


@triton.jit
def start_state(
    kv_ptr, k_sum_ptr, row, key_dim, value_dim, first_value, given, ROWS: tl.constexpr,
    COLS: tl.constexpr,
):  # fmt: skip
    """This program's part of the state that a walk starts from: zeros unless given."""
    kv = tl.zeros([ROWS, COLS], dtype=tl.float32)
    k_sum = tl.zeros([ROWS], dtype=tl.float32)
    if given:
        pointers, mask = state_tile(kv_ptr, row, key_dim, value_dim, first_value, ROWS, COLS)
        kv = tl.load(pointers, mask=mask, other=0.0)
        k_sum = load_sum(k_sum_ptr, row, key_dim, ROWS)
    return kv, k_sum


@triton.jit
def store_slot(
    kv_ptr, k_sum_ptr, kv, k_sum, slot, key_dim, value_dim, first_value, wanted,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Writes this program's part of a state, if wanted; the first program writes the k_sum."""
    rows = tl.arange(0, ROWS)
    if wanted:
        pointers, mask = state_tile(kv_ptr, slot, key_dim, value_dim, first_value, ROWS, COLS)
        tl.store(pointers, kv.to(kv_ptr.dtype.element_ty), mask=mask)
        if first_value == 0:
            k_sum_ptr += tl.cast(slot, tl.int64) * key_dim
            tl.store(k_sum_ptr + rows, k_sum, mask=rows < key_dim)


@triton.jit
def load_features(
    ptr, first, seq_len, num_heads, key_dim, feature_map, ROWS: tl.constexpr, COLS: tl.constexpr
):
    """Phi of tokens of one head, float32, with zeros outside of the array. A NaN stays one."""
    pointers, mask = token_tile(ptr, first, seq_len, num_heads, key_dim, 0, ROWS, COLS)
    x = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
    elu = tl.where(x > 0, x + 1, tl.exp(x))
    relu = tl.where(x < 0, 0.0, x)
    phi = tl.where(feature_map == ELU, elu, tl.where(feature_map == RELU, relu, x))
    return tl.where(mask, phi, 0.0)


@triton.jit
def feature_slopes(phi, feature_map):
    """The derivative of phi, from phi."""
    elu = tl.where(phi > 1, 1.0, phi)
    relu = tl.where(phi > 0, 1.0, 0.0)
    return tl.where(feature_map == ELU, elu, tl.where(feature_map == RELU, relu, 1.0))


@triton.jit
def load_log2_decay(decay_ptr, row, has_decay):
    return tl.log2(tl.load(decay_ptr + row, mask=has_decay != 0, other=1.0))


@triton.jit
def age_powers(log2_decay, CHUNK: tl.constexpr):
    return tl.exp2(log2_decay * (tl.arange(0, CHUNK) + 1))


@triton.jit
def rest_powers(log2_decay, count, CHUNK: tl.constexpr):
    return tl.exp2(log2_decay * tl.maximum(count - 1 - tl.arange(0, CHUNK), 0))


@triton.jit
def distances(CHUNK: tl.constexpr):
    """[query, key]."""
    return tl.arange(0, CHUNK)[:, None] - tl.arange(0, CHUNK)[None, :]


@triton.jit
def hide_and_decay(weights, distance, log2_decay):
    # Not a product with 0: what is hidden may be NaN.
    return tl.where(distance >= 0, weights * tl.exp2(log2_decay * tl.maximum(distance, 0)), 0.0)
