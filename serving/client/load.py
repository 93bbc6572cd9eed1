"""Puts load on anything that can be awaited, and tells what its callers saw.

A closed loop has so many callers, each of which asks again when it has its answer. If the server
stalls, so do they, and the stall is one slow answer among many fast ones that were never asked for
("coordinated omission"). In an open loop requests are due at times that do not depend on answers,
and latency counts from when a request was due, even if this process itself was late to send it.

    asyncio.Runner(loop_factory=precise_loop)   # the usual loop's timers are a millisecond coarse

Reference: Gil Tene, "How NOT to Measure Latency"; https://github.com/giltene/wrk2
"""

import asyncio
import math
import selectors
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from serving.client.arrivals import Arrivals, due_times_s
from serving.client.histogram import Histogram

Call = Callable[[], Awaitable[object]]
Clock = Callable[[], float]

# An open loop does not wait for answers; this bounds the memory of those that never come.
MAX_IN_FLIGHT = 20_000

# After the last request was due; every call has a deadline of its own, which should be shorter.
GRACE_S = 120.0


class Status(StrEnum):
    """What became of a call."""

    ANSWERED = "answered"
    # Answered, though not by the first attempt.
    RETRIED = "retried"
    # The server said that it would not, and did not compute.
    REFUSED = "refused"
    # The deadline passed before an answer came.
    LATE = "late"
    # Nobody knows what became of it: the connection ended, or no answer ever came.
    LOST = "lost"
    # The request was wrong, or the server failed.
    FAILED = "failed"


# Given what a call returned, or the exception that it raised.
Classify = Callable[[object], Status]


def answered_or_failed(outcome: object) -> Status:
    """Classifies calls of which nothing else is known."""
    if isinstance(outcome, TimeoutError):
        return Status.LATE
    return Status.FAILED if isinstance(outcome, Exception) else Status.ANSWERED


@dataclass
class LoadResult:
    """What callers saw, without the warm-up.

    Attributes:
        statuses: how many calls ended how.
        latency: of those that were answered, retries included.
        lag: how late this process began calls that were due; in a closed loop none is due.
        elapsed_s: from the end of the warm-up until the last call had ended, at least the duration.
        messages: of each status the first exception's words.
    """

    statuses: Counter[Status] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    lag: Histogram = field(default_factory=Histogram)
    elapsed_s: float = 0.0
    messages: dict[Status, str] = field(default_factory=dict)

    @property
    def answered_per_s(self) -> float:
        """The throughput."""
        return self.latency.count / self.elapsed_s if self.elapsed_s else 0.0

    def record(self, outcome: object, status: Status, latency_s: float) -> None:
        """Counts a call that has ended."""
        self.statuses[status] += 1
        if status in (Status.ANSWERED, Status.RETRIED):
            self.latency.record(latency_s)
        elif status not in self.messages:
            self.messages[status] = str(outcome) or type(outcome).__name__


async def run_closed(
    call: Call,
    concurrency: int,
    duration_s: float,
    *,
    warm_up_s: float = 0.0,
    ramp_s: float = 0.0,
    classify: Classify = answered_or_failed,
    now: Clock = time.perf_counter,
) -> LoadResult:
    """So many callers, each of which calls again when its last call has ended.

    Args:
        call: made again and again; what it raises is counted.
        concurrency: callers.
        duration_s: in which calls begin that count. Those that run at its end are waited for.
        warm_up_s: before that; what begins in it does not count.
        ramp_s: at the beginning of the warm-up, over which the callers begin one after the other.
        classify: what became of a call.
        now: seconds of the clock that latencies are read from.

    Raises:
        ValueError: a number is outside its range.
    """
    _check_positive(concurrency=concurrency, duration_s=duration_s)
    _check_not_negative(warm_up_s=warm_up_s, ramp_s=ramp_s)
    result = LoadResult()
    begin = now()
    counted_from = begin + max(warm_up_s, ramp_s)
    end = counted_from + duration_s

    async def caller(number: int) -> None:
        await asyncio.sleep(ramp_s * number / concurrency)
        while (started := now()) < end:
            outcome = await _outcome(call)
            if started >= counted_from:
                result.record(outcome, classify(outcome), now() - started)

    async with asyncio.TaskGroup() as callers:
        for number in range(concurrency):
            callers.create_task(caller(number))
    result.elapsed_s = now() - counted_from
    return result


async def run_open(
    call: Call,
    rate_hz: float,
    duration_s: float,
    *,
    arrivals: Arrivals = Arrivals.POISSON,
    warm_up_s: float = 0.0,
    ramp_s: float = 0.0,
    classify: Classify = answered_or_failed,
    now: Clock = time.perf_counter,
    seed: int = 0,
    grace_s: float = GRACE_S,
    max_in_flight: int = MAX_IN_FLIGHT,
) -> LoadResult:
    """Calls at a rate, whether earlier ones have been answered or not.

    Args:
        call: made again and again; what it raises is counted.
        rate_hz: calls a second.
        duration_s: in which calls are due that count.
        arrivals: how they follow each other.
        warm_up_s: before that; what is due in it does not count.
        ramp_s: at the beginning of the warm-up, over which the rate grows from 0.
        classify: what became of a call.
        now: seconds of the clock that latencies are read from.
        seed: of the times.
        grace_s: after the last call was due; calls that have not ended then are lost.
        max_in_flight: calls at a time; those that are due beyond it begin late, and say so by their
            latency and by the lag.

    Raises:
        ValueError: a number is outside its range.
    """
    _check_positive(rate_hz=rate_hz, duration_s=duration_s, max_in_flight=max_in_flight)
    _check_not_negative(warm_up_s=warm_up_s, ramp_s=ramp_s, grace_s=grace_s)
    result = LoadResult()
    begin = now()
    counted_from = begin + max(warm_up_s, ramp_s)
    end = counted_from + duration_s
    free = asyncio.Semaphore(max_in_flight)
    due_of_running: dict[asyncio.Task[None], float] = {}

    async def one(due: float) -> None:
        started = now()
        outcome = await _outcome(call)
        if due >= counted_from:
            result.lag.record(started - due)
            result.record(outcome, classify(outcome), now() - due)

    def ended(task: asyncio.Task[None]) -> None:
        del due_of_running[task]
        free.release()

    async with asyncio.TaskGroup() as calls:
        for offset_s in due_times_s(rate_hz, arrivals, ramp_s=ramp_s, seed=seed):
            due = begin + offset_s
            if due >= end:
                break
            await asyncio.sleep(due - now())  # returns at the loop's next turn if it is late
            await free.acquire()
            task = calls.create_task(one(due))
            due_of_running[task] = due
            task.add_done_callback(ended)
        await asyncio.sleep(end - now())
        if due_of_running:
            await asyncio.wait(set(due_of_running), timeout=grace_s)
        for task, due in due_of_running.items():
            task.cancel()
            if due >= counted_from:
                result.record(f"no answer within {grace_s:g} s", Status.LOST, math.inf)
    result.elapsed_s = now() - counted_from
    return result


def precise_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are as fine as the system's.

    The usual one, epoll, and uvloop too, round waits to milliseconds, which would be added to each
    latency of an open loop. select takes microseconds; it is limited to about 1,000 files.
    """
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _outcome(call: Call) -> object:
    try:
        return await call()
    except Exception as error:
        return error


def _check_positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < math.inf:  # NaN is neither
            raise ValueError(f"{name} is {number}; expected more than 0")


def _check_not_negative(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} is {number}; expected 0 or more")
