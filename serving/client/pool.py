"""Several channels to one server, of which the least loaded is used next."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

C = TypeVar("C")


class PoolClosedError(Exception):
    """No call is made any more."""


class _Slot(Generic[C]):
    """A channel and how many calls are on it."""

    __slots__ = ("channel", "in_flight")

    def __init__(self, channel: C) -> None:
        self.channel = channel
        self.in_flight = 0


class ChannelPool(Generic[C]):
    """Opens a channel when the others have as many calls as they should. Thread-safe.

    Args:
        open_channel: called with no lock but this pool's held.
        streams_per_channel: calls on one channel before another is opened.
        max_channels: after which calls are spread over those that there are.
    """

    def __init__(
        self, open_channel: Callable[[], C], streams_per_channel: int, max_channels: int
    ) -> None:
        self._open_channel = open_channel
        self._streams_per_channel = streams_per_channel
        self._max_channels = max_channels
        self._slots: list[_Slot[C]] = []
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def channel(self) -> Iterator[C]:
        """The channel for the next call, which ends where the context does.

        Raises:
            PoolClosedError: `close` was called.
        """
        slot = self._acquire()
        try:
            yield slot.channel
        finally:
            with self._lock:
                slot.in_flight -= 1

    def close(self) -> list[C]:
        """Opens none any more, and returns those that are open, which the caller closes."""
        with self._lock:
            self._closed = True
            return [slot.channel for slot in self._slots]

    def _acquire(self) -> _Slot[C]:
        with self._lock:
            if self._closed:
                raise PoolClosedError
            slot = min(self._slots, key=lambda slot: slot.in_flight, default=None)
            if slot is None or (
                slot.in_flight >= self._streams_per_channel
                and len(self._slots) < self._max_channels
            ):
                slot = _Slot(self._open_channel())
                self._slots.append(slot)
            slot.in_flight += 1
            return slot
