"""The allocator against a model of it: a set of bytes that are taken."""

from hypothesis import given
from hypothesis import strategies as st

from serving.replicas.blocks import Blocks

SIZE = 64 * 40

# Sizes to take, or, negative, which of the blocks that are taken to give back.
STEPS = st.lists(st.one_of(st.integers(0, 64 * 12), st.integers(-50, -1)), max_size=60)


@given(STEPS)
def test_blocks_never_overlap_and_room_that_is_there_is_found(steps: list[int]) -> None:
    blocks = Blocks(SIZE)
    taken: dict[int, int] = {}
    for step in steps:
        if step < 0:
            if taken:
                offset = sorted(taken)[step % len(taken)]
                assert blocks.free(offset)
                del taken[offset]
        else:
            _take(blocks, taken, step)
        assert blocks.used_bytes == sum(taken.values())
    for offset in list(taken):
        assert blocks.free(offset)
        assert not blocks.free(offset)
    assert blocks.allocate(SIZE) == 0  # all gaps have become one again


def _take(blocks: Blocks, taken: dict[int, int], size: int) -> None:
    needed = max(64, (size + 63) // 64 * 64)
    used = {cell for at, length in taken.items() for cell in range(at, at + length, 64)}
    fits = [
        at for at in range(0, SIZE - needed + 1, 64) if used.isdisjoint(range(at, at + needed, 64))
    ]
    offset = blocks.allocate(size)
    # The lowest place, whose pages are the most likely to have been used already.
    assert offset == (fits[0] if fits else None)
    if offset is not None:
        taken[offset] = needed


def test_what_is_not_taken_cannot_be_given_back() -> None:
    blocks = Blocks(SIZE)
    offset = blocks.allocate(200)
    assert offset == 0
    assert not blocks.free(64)
    assert not blocks.free(-1)
    assert not blocks.free(SIZE)
    assert blocks.free(0)
    assert not blocks.free(0)
