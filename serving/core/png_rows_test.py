"""PNGs of every form are whole with all of their rows, and are not with one byte less."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from serving.core.png_rows import has_all_rows

# Bits of a channel and its number, by colour type: those that the standard allows.
FORMS = {
    0: (1, (1, 2, 4, 8, 16)),
    2: (3, (8, 16)),
    3: (1, (1, 2, 4, 8)),
    4: (2, (8, 16)),
    6: (4, (8, 16)),
}
SIZES = [(1, 1), (1, 9), (9, 1), (3, 5), (8, 8), (17, 33)]


def chunk(kind: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc


def png(header: tuple[int, ...], data: bytes) -> bytes:
    """A file whose data comes in several chunks."""
    pressed = zlib.compress(data)
    pieces = [pressed[at : at + 20] for at in range(0, len(pressed), 20)]
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", *header)),
            chunk(b"PLTE", bytes(3 * 2)),
            *(chunk(b"IDAT", piece) for piece in pieces),
            chunk(b"IEND", b""),
        ]
    )


def passes(grid: np.ndarray, interlaced: bool) -> list[np.ndarray]:
    """The pixels as they are sent: all rows, or those that Adam7's pattern of 8 by 8 names."""
    if not interlaced:
        return [grid]
    pattern = np.array(
        [
            [1, 6, 4, 6, 2, 6, 4, 6],
            [7, 7, 7, 7, 7, 7, 7, 7],
            [5, 6, 5, 6, 5, 6, 5, 6],
            [7, 7, 7, 7, 7, 7, 7, 7],
            [3, 6, 4, 6, 3, 6, 4, 6],
            [7, 7, 7, 7, 7, 7, 7, 7],
            [5, 6, 5, 6, 5, 6, 5, 6],
            [7, 7, 7, 7, 7, 7, 7, 7],
        ]
    )
    height, width = grid.shape
    number = np.tile(pattern, (height // 8 + 1, width // 8 + 1))[:height, :width]
    found = []
    for which in range(1, 8):
        rows = [grid[row][number[row] == which] for row in range(height)]
        found.append(np.array([row for row in rows if row.size]))
    return found


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("color", FORMS)
def test_a_byte_less_is_not_whole(color: int, interlaced: bool) -> None:
    channels, depths = FORMS[color]
    for depth in depths:
        for width, height in SIZES:
            rows = [
                bytes(1 + (len(row) * channels * depth + 7) // 8)
                for part in passes(np.zeros((height, width)), interlaced)
                for row in part
            ]
            data = b"".join(rows)
            header = (width, height, depth, color, 0, 0, int(interlaced))
            whole = png(header, data)
            Image.open(io.BytesIO(whole)).load()
            assert has_all_rows(whole)
            assert not has_all_rows(png(header, data[:-1]))


def test_what_cannot_be_inflated_is_not_whole() -> None:
    damaged = png((8, 8, 8, 0, 0, 0, 0), bytes(72)).replace(zlib.compress(bytes(72))[:2], b"\0\0")
    assert not has_all_rows(damaged)
