"""Tiles of chunks, in Triton: where a program's tile is, and its values in memory.

Pointers are multiples of 16 bytes. A tile that is whole and starts at such a multiple is read and
written in vectors; where chunks are whole blocks, all but the last one of a chunk do. The values of
any other tile are read and written one by one.
"""

import triton
import triton.language as tl

# Values of a tile; a multiple of every block size.
TILE = tl.constexpr(4096)


@triton.jit
def locate(chunk_size):
    """The chunk of this program and the tile in it."""
    tiles = tl.cast(tl.cdiv(chunk_size, TILE), tl.int32)
    index = tl.program_id(0)
    return tl.cast(index // tiles, tl.int64), tl.cast(index % tiles, tl.int64)


@triton.jit
def span(size, chunk_size, chunk, tile):
    """The first value of a tile and how many it has: fewer where its chunk or the array ends."""
    left = tl.minimum(size - chunk * chunk_size, chunk_size) - tile * TILE
    count = tl.cast(tl.minimum(tl.maximum(left, 0), TILE), tl.int32)
    return chunk * chunk_size + tile * TILE, count


@triton.jit
def places(WIDTH: tl.constexpr):
    """The places of a tile in rows of WIDTH.

    Each thread takes four neighbours of every array, whatever the size of its elements: so none has
    to be moved between threads, and a warp takes whole cache lines.
    """
    rows = tl.arange(0, TILE // WIDTH)
    return tl.max_contiguous(rows[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :], (1, 4))


@triton.jit
def _is_vector(ptr, start, count):
    """Whether a tile is whole and its address a multiple of 16 bytes."""
    return (count == TILE) & (start % (128 // ptr.dtype.element_ty.primitive_bitwidth) == 0)


@triton.jit
def load(ptr, start, count, WIDTH: tl.constexpr):
    """A tile in float32, with zeros from `count` on."""
    index = places(WIDTH)
    if _is_vector(ptr, start, count):
        values = tl.load(tl.multiple_of(ptr + start, 16) + index, eviction_policy="evict_first")
    else:
        values = tl.load(ptr + start + index, mask=index < count, other=0.0)
    return values.to(tl.float32)


@triton.jit
def reload(ptr, start, count, values, is_lost, WIDTH: tl.constexpr):
    """The values, but what memory has in lost rows. Where there is none, nothing is read."""
    index = places(WIDTH)
    if _is_vector(ptr, start, count):
        address = tl.multiple_of(ptr + start, 16) + index
        values = tl.load(address, mask=is_lost[:, None], other=values)
    else:
        mask = is_lost[:, None] & (index < count)
        values = tl.load(ptr + start + index, mask=mask, other=values)
    return values


@triton.jit
def store(ptr, start, count, values, WIDTH: tl.constexpr):
    index = places(WIDTH)
    values = values.to(ptr.dtype.element_ty)
    if _is_vector(ptr, start, count):
        tl.store(tl.multiple_of(ptr + start, 16) + index, values)
    else:
        tl.store(ptr + start + index, values, mask=index < count)
