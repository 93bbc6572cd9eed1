"""What `Wire` says of bytes, against rings that are played through."""

import pytest

from comm.wire import Wire, all_reduce_bytes, reduce_scatter_bytes


def _sent_in_ring(num_bytes: int, world_size: int, *, gathers: bool) -> list[int]:
    """What each rank sends in a ring that reduces, and then gathers if asked to."""
    sent = [0] * world_size
    for _ in range(2 if gathers else 1):
        for _ in range(world_size - 1):
            for rank in range(world_size):
                sent[rank] += num_bytes // world_size  # to the next, a chunk of the whole
    return sent


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_bytes_are_those_of_a_ring(world_size: int) -> None:
    num_bytes = 240 * world_size
    for rank_bytes in _sent_in_ring(num_bytes, world_size, gathers=True):
        assert all_reduce_bytes(num_bytes, world_size) == rank_bytes
    for rank_bytes in _sent_in_ring(num_bytes, world_size, gathers=False):
        assert reduce_scatter_bytes(num_bytes, world_size) == rank_bytes


def test_ratio_is_of_all_that_was_added() -> None:
    wire = Wire()
    assert wire.ratio == 1.0
    wire.add(10.0, 40.0)
    assert wire.ratio == 0.25
    wire.add(20.0, 20.0)
    assert wire == Wire(30.0, 60.0)
    assert wire.ratio == 0.5
