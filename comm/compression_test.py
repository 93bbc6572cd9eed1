"""What both frameworks take from `comm.compression`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comm.compression import Compression, compresses, pieces, quantization_seed
from kernels.quantize.contract import BLOCK_SIZES, codec


@given(
    size=st.integers(0, 10**6),
    block_size=st.sampled_from(BLOCK_SIZES),
    num_blocks=st.floats(1, 500),
)
def test_pieces_are_the_whole_in_whole_blocks(
    size: int, block_size: int, num_blocks: float
) -> None:
    bucket_bytes = int(4 * block_size * num_blocks)
    compression = Compression(codec(block_size=block_size), bucket_bytes=bucket_bytes)
    cut = list(pieces(compression, size))
    assert [start for start, _ in cut] == [0, *(stop for _, stop in cut)][: len(cut)]
    assert (cut[-1][1] if cut else 0) == size
    for start, stop in cut:
        assert start % block_size == 0
        assert 0 < 4 * (stop - start) <= bucket_bytes
    # No piece is smaller than it need be, but for the last.
    for start, stop in cut[:-1]:
        assert 4 * (stop - start + block_size) > bucket_bytes


@pytest.mark.parametrize(
    ("shape", "compressed"),
    [
        ((32, 32), True),
        ((2, 4, 128), True),
        ((31, 33), False),
        ((10**6,), False),
        ((), False),
        ((0, 5), False),
    ],
)
def test_large_matrices_are_compressed(shape: tuple[int, ...], compressed: bool) -> None:
    assert compresses(Compression(min_size=1024), shape) is compressed


def test_seeds_do_not_repeat() -> None:
    drawn = [
        quantization_seed(Compression(seed=seed), step, hop, rank)
        for seed in (0, 1, 2**32 - 1)
        for step in range(50)
        for hop, world_size in ((0, 8), (1, 1))
        for rank in range(world_size)
    ]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= seed < 2**32 for seed in drawn)


def test_seeds_stay_what_they_were() -> None:
    # A run that goes on after an upgrade is to draw what it would have drawn.
    assert quantization_seed(Compression(), 0, 0, 0) == 3150628639
    assert quantization_seed(Compression(seed=7), 1000, 1, 0) == 3100881294


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_size": -1}, "min_size"),
        ({"bucket_bytes": 1023}, "1024 bytes, got 1023"),
        ({"ranks_per_node": 0}, "ranks_per_node"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Compression(**options)
