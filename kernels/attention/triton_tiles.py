"""Tiles of attention's Triton kernels: where they lie, and which of them a program visits.

A tile holds whole heads, padded with zeros to BLOCK_D columns. Offsets within a tile are 32 bits
wide and the same in every step of a loop; those of its first row are 64 bits wide.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl


class Sizes(NamedTuple):
    """The sizes of the problem but its batch, see problem.h."""

    seq_q: Any
    seq_k: Any
    num_heads: Any
    num_kv_heads: Any
    head_dim: Any


class Window(NamedTuple):
    """How many keys before and after its own position a query sees, both 0 or more."""

    left: Any
    right: Any


class Span(NamedTuple):
    """The tiles of one sequence that a block of the other one takes part in, by their first row.

    Of [begin, end), the tiles [full_begin, middle_begin) and [middle_end, full_end) need no mask:
    there, every row of the block sees every row of the tile and lies on one side of all of them.
    """

    begin: Any
    full_begin: Any
    middle_begin: Any
    middle_end: Any
    full_end: Any
    end: Any


@triton.jit
def locate(num_blocks, num_heads):
    """Splits the program index into (block, head, batch); the blocks of one head run together."""
    index = tl.program_id(0)
    block = index % num_blocks
    head = (index // num_blocks) % num_heads
    batch = index // num_blocks // num_heads
    return block, head, batch


@triton.jit
def head_start(ptr, batch, seq_len, num_heads, head, head_dim):
    """The first row of one head of [batch, seq_len, num_heads, head_dim]."""
    return ptr + (batch.to(tl.int64) * seq_len * num_heads + head) * head_dim


@triton.jit
def row_start(batch, num_heads, head, seq_q):
    """Where the row of one head of [batch, num_heads, seq_q] begins."""
    return (batch.to(tl.int64) * num_heads + head) * seq_q


@triton.jit
def load(
    ptr, first, seq_len, stride, head_dim, CHECK: tl.constexpr, ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The tile [ROWS, BLOCK_D] from row `first` of one head, zeros outside of the array.

    Without CHECK all of the rows must lie within it.
    """
    rows = tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK_D)[None, :]
    mask = columns < head_dim
    if CHECK:
        mask = mask & (first + rows < seq_len)
    start = ptr + tl.cast(first, tl.int64) * stride
    return tl.load(start + (rows * stride + columns), mask=mask, other=0.0)


@triton.jit
def load_present(
    ptr, first, stride, head_dim, present, ROWS: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """The tile [ROWS, BLOCK_D] from row `first` of one head, zeros but for `present` [ROWS, 1].

    Rows that are no part of the problem may hold anything, NaN too: they are not even read.
    """
    rows = tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK_D)[None, :]
    start = ptr + tl.cast(first, tl.int64) * stride
    mask = present & (columns < head_dim)
    return tl.load(start + (rows * stride + columns), mask=mask, other=0.0)


@triton.jit
def store(ptr, tile, first, seq_len, stride, head_dim, ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    """Writes those rows of the tile that lie within the array."""
    rows = tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK_D)[None, :]
    start = ptr + tl.cast(first, tl.int64) * stride
    mask = (columns < head_dim) & (first + rows < seq_len)
    tl.store(start + (rows * stride + columns), tile.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def find_span(first, last, before, after, length, SPLIT: tl.constexpr, BLOCK: tl.constexpr):
    """The span of the block of rows first..last, in the rows of the other sequence.

    Row i is seen from i - before to i + after. With SPLIT, tiles on both sides of some row of the
    block are among those that need a mask.
    """
    first_seen = tl.maximum(first - before, 0)
    end_seen = tl.minimum(last + after + 1, length)
    begin = first_seen // BLOCK * BLOCK
    end = tl.where(first_seen < end_seen, tl.cdiv(end_seen, BLOCK) * BLOCK, begin)
    full_begin = tl.cdiv(tl.maximum(last - before, 0), BLOCK) * BLOCK
    full_end = tl.maximum(tl.minimum(first + after + 1, length), 0) // BLOCK * BLOCK
    has_full = full_begin < full_end
    full_begin = tl.where(has_full, full_begin, begin)
    full_end = tl.where(has_full, full_end, begin)
    middle_begin = full_begin
    middle_end = full_begin
    if SPLIT:
        middle_begin = tl.maximum(first + 1, 0) // BLOCK * BLOCK
        middle_begin = tl.minimum(tl.maximum(middle_begin, full_begin), full_end)
        middle_end = tl.cdiv(tl.maximum(last, 0), BLOCK) * BLOCK
        middle_end = tl.minimum(tl.maximum(middle_end, middle_begin), full_end)
    return Span(begin, full_begin, middle_begin, middle_end, full_end, end)


@triton.jit
def mask_all(begin, end):
    """The span of the tiles [begin, end) where all need a mask."""
    return Span(begin, begin, begin, begin, begin, end)


@triton.jit
def count_tiles(span, MASKED: tl.constexpr, BLOCK: tl.constexpr):
    """How many tiles of a span need a mask, or how many do not."""
    unmasked = span.middle_begin - span.full_begin + span.full_end - span.middle_end
    rows = unmasked
    if MASKED:
        rows = span.end - span.begin - unmasked
    return rows // BLOCK


@triton.jit
def nth_tile(span, step, MASKED: tl.constexpr, BLOCK: tl.constexpr):
    """The first row of the tile of a step, among those that need a mask or those that do not."""
    if MASKED:
        first = span.begin + step * BLOCK
        first += tl.where(first >= span.full_begin, span.middle_begin - span.full_begin, 0)
        first += tl.where(first >= span.middle_end, span.full_end - span.middle_end, 0)
    else:
        first = span.full_begin + step * BLOCK
        first += tl.where(first >= span.middle_begin, span.middle_end - span.middle_begin, 0)
    return first
