"""RoPE in Triton: a pass over queries or keys, and the rotation of a tile as it is loaded.

Fused, keys are rotated again for each block of queries: it pays for a few queries (decoding), where
a pass of its own would read and write the whole KV cache.

Reference: Su et al., "RoFormer", 2021, arXiv:2104.09864.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl


class Rope(NamedTuple):
    """Tables [positions, rotary_dim / 2] of float32, and the channels that they turn."""

    cos_ptr: Any
    sin_ptr: Any
    rotary_dim: Any  # 0: nothing is turned.
    interleaved: Any


@triton.jit
def load_rotated(
    ptr, first, seq_len, stride, rope, first_row, ROWS: tl.constexpr, BLOCK_D: tl.constexpr
):
    """The channels of a tile that turn, rotated: the first ones of all pairs, and the second ones.

    Row i of the sequence takes row first_row + i of the tables. Both are [ROWS, BLOCK_D / 2], zeros
    outside of the array. Products of queries and keys do not ask for the order of channels.
    """
    rows = tl.arange(0, ROWS)[:, None]
    pairs = tl.arange(0, BLOCK_D // 2)[None, :]
    half = rope.rotary_dim // 2
    mask = (pairs < half) & (first + rows < seq_len)
    start = ptr + tl.cast(first, tl.int64) * stride
    to_second = tl.where(rope.interleaved != 0, 1, half)
    offsets = rows * stride + pairs * tl.where(rope.interleaved != 0, 2, 1)
    x = tl.load(start + offsets, mask=mask, other=0.0)
    y = tl.load(start + offsets + to_second, mask=mask, other=0.0)
    angles = (first_row + first + rows) * half + pairs
    cos = tl.load(rope.cos_ptr + angles, mask=mask, other=1.0)
    sin = tl.load(rope.sin_ptr + angles, mask=mask, other=0.0)
    wide_x = x.to(tl.float32)
    wide_y = y.to(tl.float32)
    return (wide_x * cos - wide_y * sin).to(x.dtype), (wide_x * sin + wide_y * cos).to(x.dtype)


@triton.jit
def load_unrotated(
    ptr, first, seq_len, stride, head_dim, rope, ROWS: tl.constexpr, BLOCK_D: tl.constexpr
):
    """The channels of a tile that do not turn, zeros for those that do; [ROWS, BLOCK_D]."""
    rows = tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK_D)[None, :]
    mask = (columns >= rope.rotary_dim) & (columns < head_dim) & (first + rows < seq_len)
    start = ptr + tl.cast(first, tl.int64) * stride
    return tl.load(start + (rows * stride + columns), mask=mask, other=0.0)


@triton.jit
def attention_rotate(
    x_ptr, rotated_ptr, rope_cos_ptr, rope_sin_ptr, seq_len, num_heads, head_dim, first_row,
    rotary_dim, rotary_interleaved, direction, BLOCK_ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Rotates x [batch, seq_len, num_heads, head_dim], back if direction is -1.

    rotated_ptr may be x_ptr: each thread reads both channels of a pair before it writes them.
    """
    rows_in_batch = seq_len * num_heads
    blocks = tl.cdiv(rows_in_batch, BLOCK_ROWS)
    batch = tl.program_id(0) // blocks
    rows = (tl.program_id(0) % blocks * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS))[:, None]
    start = batch.to(tl.int64) * rows_in_batch * head_dim
    offsets = rows.to(tl.int64) * head_dim
    in_array = rows < rows_in_batch

    half = rotary_dim // 2
    pairs = tl.arange(0, BLOCK_D // 2)[None, :]
    first = offsets + tl.where(rotary_interleaved != 0, 2 * pairs, pairs)
    second = first + tl.where(rotary_interleaved != 0, 1, half)
    mask = in_array & (pairs < half)
    angles = (first_row + rows // num_heads) * half + pairs
    cos = tl.load(rope_cos_ptr + angles, mask=mask, other=1.0)
    sin = tl.load(rope_sin_ptr + angles, mask=mask, other=0.0) * direction
    x = tl.load(x_ptr + start + first, mask=mask, other=0.0)
    y = tl.load(x_ptr + start + second, mask=mask, other=0.0)
    kind = rotated_ptr.dtype.element_ty
    wide_x = x.to(tl.float32)
    wide_y = y.to(tl.float32)
    tl.store(rotated_ptr + start + first, (wide_x * cos - wide_y * sin).to(kind), mask=mask)
    tl.store(rotated_ptr + start + second, (wide_x * sin + wide_y * cos).to(kind), mask=mask)

    # The channels that do not turn.
    columns = tl.arange(0, BLOCK_D)[None, :]
    others = in_array & (columns >= rotary_dim) & (columns < head_dim)
    x = tl.load(x_ptr + start + offsets + columns, mask=others, other=0.0)
    tl.store(rotated_ptr + start + offsets + columns, x, mask=others)
