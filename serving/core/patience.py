"""A queue that waits for more requests though a replica is free, where configuration allows it."""

import asyncio
from collections.abc import Callable

from serving.policies.gathering import Gathering, GatheringConfig


class Patience:
    """Waits as `Gathering` says, by one timer. It is used from one event loop.

    Args:
        config: How long it may wait.
        leave: Called when the wait is over.

    Attributes:
        is_on: It may wait at all.
    """

    __slots__ = ("_gathering", "_leave", "_oldest", "_timer", "is_on")

    def __init__(self, config: GatheringConfig, leave: Callable[[], None]) -> None:
        self.is_on = config.max_queue_delay_s > 0
        self._gathering = Gathering(config)
        self._leave = leave
        self._oldest = 0.0  # when the first of those that wait now arrived
        self._timer: asyncio.TimerHandle | None = None

    def arrived(self, now: float, *, is_first: bool) -> None:
        """Takes note of a request, and whether nobody waited before it."""
        if is_first:
            self._oldest = now
        if self.is_on:
            self._gathering.arrived(now)

    def left(self, now: float) -> None:
        """Takes note of a batch that leaves; those that remain wait from now on."""
        self._oldest = now

    def waits(self, now: float, saving_s: float) -> bool:
        """Whether those that wait go on waiting; see `Gathering.wait_s`."""
        wait_s = self._gathering.wait_s(now, self._oldest, saving_s)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait_s > 0:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._leave)
        return wait_s > 0
