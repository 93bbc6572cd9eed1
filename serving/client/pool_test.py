"""Which channel a call goes to, and when another is opened."""

from contextlib import ExitStack
from itertools import count

import pytest

from serving.client.pool import ChannelPool, PoolClosedError


def pool(streams: int = 2, channels: int = 3) -> ChannelPool[int]:
    numbers = count()
    return ChannelPool(lambda: next(numbers), streams, channels)


def test_a_channel_is_opened_when_the_others_are_full() -> None:
    with ExitStack() as calls:
        opened = pool()
        used = [calls.enter_context(opened.channel()) for _ in range(6)]
        assert used == [0, 0, 1, 1, 2, 2]
        # At the limit all are loaded alike.
        used = [calls.enter_context(opened.channel()) for _ in range(3)]
        assert sorted(used) == [0, 1, 2]


def test_the_least_loaded_channel_is_next() -> None:
    opened = pool()
    with opened.channel(), opened.channel(), opened.channel() as second:
        assert second == 1
        with opened.channel() as least:
            assert least == 1
    with opened.channel() as idle:
        assert idle == 0


def test_a_call_that_fails_leaves_its_channel() -> None:
    opened = pool(streams=1)
    for _ in range(5):
        with pytest.raises(LookupError), opened.channel():
            raise LookupError
    assert opened.close() == [0]


def test_none_is_opened_after_it_was_closed() -> None:
    opened = pool()
    with opened.channel():
        assert opened.close() == [0]
        with pytest.raises(PoolClosedError), opened.channel():
            raise AssertionError
