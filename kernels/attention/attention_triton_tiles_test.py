"""The tiles that the Triton kernels visit, in Triton's interpreter: all that matter, each once.

Run with TRITON_INTERPRET=1.
"""

from typing import NamedTuple

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from kernels.attention import triton_tiles as tiles

BLOCK = 16
MAX_TILES = 16
CASES = 80


@triton.jit
def _list_tiles(
    first_ptr, count_ptr, first, last, before, after, length, SPLIT: tl.constexpr,
    MASKED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes the first row of each tile that needs a mask, or of each that does not."""
    span = tiles.find_span(first, last, before, after, length, SPLIT, BLOCK)
    count = tiles.count_tiles(span, MASKED, BLOCK)
    tl.store(count_ptr, count)
    for step in tl.range(0, count):
        tl.store(first_ptr + step, tiles.nth_tile(span, step, MASKED, BLOCK))


class _Block(NamedTuple):
    """Rows first..last of one sequence, which row i sees from i - before to i + after."""

    first: int
    last: int
    before: int
    after: int
    length: int

    def seen(self) -> NDArray[np.bool_]:
        """Which of the rows (axis 0) sees which row of the other sequence, padded to tiles."""
        rows = np.arange(self.first, self.last + 1)[:, None]
        others = np.arange(MAX_TILES * BLOCK)[None]
        in_window = (others >= rows - self.before) & (others <= rows + self.after)
        return in_window & (others < self.length)


def _draw(generator: np.random.Generator) -> _Block:
    first = int(generator.integers(-60, 150))
    return _Block(
        first=first,
        last=first + int(generator.integers(0, 40)),
        before=int(generator.choice([0, 3, 40, 1000])),
        after=int(generator.choice([0, 5, 50, 1000])),
        length=int(generator.integers(0, MAX_TILES * BLOCK - 60)),
    )


def _visited(block: _Block, split: bool, masked: bool) -> list[int]:
    first, count = torch.zeros(MAX_TILES, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    _list_tiles[(1,)](first, count, *block, split, masked, BLOCK)
    return [int(x) // BLOCK for x in first[: int(count)]]


@pytest.mark.parametrize("split", [False, True], ids=["one loop", "two sides"])
def test_visits_what_is_seen_and_masks_what_is_seen_in_part(split: bool) -> None:
    generator = np.random.default_rng(0)
    unmasked_tiles = 0
    for _ in range(CASES):
        block = _draw(generator)
        seen = block.seen().reshape(-1, MAX_TILES, BLOCK)
        rows = np.arange(block.first, block.last + 1)[:, None, None]
        others = np.arange(MAX_TILES * BLOCK).reshape(MAX_TILES, BLOCK)[None]
        needs_none = seen.all(axis=(0, 2))
        if split:
            left, right = (others <= rows).all(axis=(0, 2)), (others >= rows).all(axis=(0, 2))
            needs_none &= left | right
        masked, unmasked = _visited(block, split, True), _visited(block, split, False)
        assert sorted(masked + unmasked) == list(np.flatnonzero(seen.any(axis=(0, 2)))), block
        assert unmasked == list(np.flatnonzero(needs_none)), block
        unmasked_tiles += len(unmasked)
    assert unmasked_tiles > CASES
