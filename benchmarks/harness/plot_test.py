"""Plots are images of the size that was asked for."""

import struct

import pytest

from benchmarks.harness.plot import Panel, png


def _size(image: bytes) -> tuple[int, int]:
    """Width and height from a PNG's first chunk."""
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    assert image[12:16] == b"IHDR"
    width, height = struct.unpack(">II", image[16:24])
    return width, height


def _draw(panels: int, columns: int) -> bytes:
    lines = {"a peer": [(128.0, 2.0), (256.0, 3.0)], "without points": []}
    return png(
        [Panel(f"panel {i}", lines, level=1.0) for i in range(panels)],
        title="title",
        x_label="x",
        y_label="y",
        columns=columns,
    )


def test_more_panels_make_a_larger_image() -> None:
    narrow, low = _size(_draw(1, 1))
    wide, same = _size(_draw(2, 2))
    assert wide == 2 * narrow and same == low
    assert _size(_draw(3, 2))[1] > low


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no panel"):
        png([], title="", x_label="", y_label="", columns=1)
