"""The lag is told as it is, by a loop whose time the test makes."""

import asyncio
import heapq
from collections.abc import Callable
from typing import Any, cast

import pytest

from serving.observability.loop_lag import INTERVAL_S, LoopLag


class Handle:
    """Of something that is still to be called, unless it is cancelled."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """An event loop of one kind of event, whose callbacks take as long as `blocked_s` says."""

    def __init__(self) -> None:
        self.now, self.blocked_s = 100.0, 0.0
        self._due: list[tuple[float, int, Handle, Callable[[], Any]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, callback: Callable[..., Any], *arguments: object) -> Handle:
        handle = Handle()
        heapq.heappush(self._due, (due, id(handle), handle, lambda: callback(*arguments)))
        return handle

    def run_until(self, end: float) -> None:
        while self._due and self._due[0][0] <= end:
            due, _, handle, call = heapq.heappop(self._due)
            if not handle.cancelled:
                self.now = max(self.now, due) + self.blocked_s
                self.blocked_s = 0.0
                call()
        self.now = max(self.now, end)


def start() -> tuple[Loop, LoopLag, list[float]]:
    loop, told = Loop(), list[float]()
    lag = LoopLag(cast(asyncio.AbstractEventLoop, loop), told.append)
    lag.start()
    return loop, lag, told


def test_an_idle_loop_is_not_late() -> None:
    loop, _, told = start()
    loop.run_until(loop.now + 10.5 * INTERVAL_S)
    assert told == pytest.approx([0.0] * 10, abs=1e-9)


def test_a_blocked_loop_is_told_once_and_in_full() -> None:
    loop, _, told = start()
    loop.blocked_s = 3.0
    loop.run_until(loop.now + 3.0 + 2.5 * INTERVAL_S)
    assert told == pytest.approx([3.0, 0.0], abs=1e-9)


def test_nothing_is_told_after_the_end() -> None:
    loop, lag, told = start()
    loop.run_until(loop.now + 1.5 * INTERVAL_S)
    lag.stop()
    lag.stop()
    loop.run_until(loop.now + 10 * INTERVAL_S)
    assert len(told) == 1


def test_a_real_loop_tells_what_blocked_it() -> None:
    async def block() -> float:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[float] = loop.create_future()
        lag = LoopLag(loop, told.set_result)
        lag.start()
        begin = loop.time()
        while loop.time() < begin + 3 * INTERVAL_S:
            pass
        late = await told
        lag.stop()
        return late

    assert asyncio.run(block()) >= 1.9 * INTERVAL_S
