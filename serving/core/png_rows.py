"""Whether a PNG holds all of its rows: Pillow leaves those black that are missing, without a word.

Reference: W3C, Portable Network Graphics (Third Edition), sections 5.3, 8.1 and 10.1.
"""

import struct
import zlib
from collections.abc import Iterator

_SIGNATURE_BYTES = 8
_HEADER = struct.Struct(">IIBBBBB")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# Of Adam7's passes: the first column and row, and the steps to the next ones.
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_ALL_AT_ONCE = ((0, 0, 1, 1),)
# Bytes that are inflated at a time.
_STEP = 1 << 20


def has_all_rows(png: bytes) -> bool:
    """Whether the data of a PNG is as long as its header says.

    Args:
        png: A file whose chunks are well formed, as one is that Pillow has loaded.
    """
    header = next(data for kind, data in _chunks(png) if kind == b"IHDR")
    missing = _expected_bytes(*_HEADER.unpack_from(header))
    inflate = zlib.decompressobj()
    for kind, data in _chunks(png):
        while kind == b"IDAT" and data and missing > 0:
            try:
                missing -= len(inflate.decompress(data, min(missing, _STEP)))
            except zlib.error:
                return False
            data = inflate.unconsumed_tail
    return missing <= 0


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of each chunk."""
    at = _SIGNATURE_BYTES
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def _expected_bytes(
    width: int, height: int, depth: int, color: int, _compression: int, _filter: int, adam7: int
) -> int:
    """How long the data is before it is compressed: in each row a filter's byte and the pixels."""
    pixel_bits = depth * _CHANNELS[color]
    total = 0
    for column, row, column_step, row_step in _ADAM7 if adam7 else _ALL_AT_ONCE:
        columns = -(-(width - column) // column_step) if width > column else 0
        rows = -(-(height - row) // row_step) if height > row else 0
        if columns:
            total += rows * (1 + -(-columns * pixel_bits // 8))
    return total
