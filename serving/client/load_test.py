"""Loads against a server that is simulated, in a time that is simulated too."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from serving.client.arrivals import Arrivals, due_times_s
from serving.client.histogram import RELATIVE_ERROR
from serving.client.load import LoadResult, Status, precise_loop, run_closed, run_open

SERVICE_S = 0.001
STALL_AT_S = 5.0
STALL_S = 1.0
DURATION_S = 10.0


class VirtualTime(asyncio.SelectorEventLoop):
    """An event loop that does not wait: its clock jumps to when the next timer is due."""

    def __init__(self) -> None:
        super().__init__(_Jumping(self))
        self.elapsed_s = 0.0

    def time(self) -> float:
        return self.elapsed_s


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing will ever happen"
        self._loop.elapsed_s += timeout
        return super().select(0)


def in_virtual_time(
    run: Callable[[Callable[[], float]], Coroutine[Any, Any, LoadResult]],
) -> LoadResult:
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        loop = runner.get_loop()
        return runner.run(run(loop.time))


class Stalling:
    """A server that answers one request after the other, and once, for a while, none."""

    def __init__(self) -> None:
        self._free_at = 0.0

    async def __call__(self) -> None:
        now = asyncio.get_running_loop().time()
        self._free_at = served_at(max(now, self._free_at)) + SERVICE_S
        await asyncio.sleep(self._free_at - now)


def served_at(ready: float) -> float:
    """When the server begins what it could begin at `ready`, but for the stall."""
    return STALL_AT_S + STALL_S if STALL_AT_S <= ready < STALL_AT_S + STALL_S else ready


def expected_latencies_s(rate_hz: float) -> np.ndarray:
    """Of constant arrivals at a queue with one server, by Lindley's recursion."""
    latencies_s, free_at = [], 0.0
    for number in range(1, int(rate_hz * DURATION_S)):
        due = number / rate_hz
        free_at = served_at(max(due, free_at)) + SERVICE_S
        latencies_s.append(free_at - due)
    return np.array(latencies_s)


@pytest.mark.parametrize("percent", [50, 90, 99, 99.9, 100])
def test_open_loop_shows_a_stall_to_everybody_who_was_due_in_it(percent: float) -> None:
    result = in_virtual_time(
        lambda now: run_open(
            Stalling(), 100.0, DURATION_S, arrivals=Arrivals.CONSTANT, now=now, seed=1
        )
    )
    expected = expected_latencies_s(100.0)
    assert result.statuses == {Status.ANSWERED: len(expected)}
    measured_s = result.latency.percentiles_s([percent])[0]
    expected_s = np.percentile(expected, percent, method="inverted_cdf")
    assert measured_s == pytest.approx(expected_s, rel=RELATIVE_ERROR, abs=2e-6)
    if percent >= 99:  # a tenth of the requests were due in the stall
        assert measured_s > 0.9 * STALL_S
    assert result.lag.max_s < 1e-6


def test_closed_loop_hides_the_stall_as_one_slow_answer() -> None:
    result = in_virtual_time(lambda now: run_closed(Stalling(), 1, DURATION_S, now=now))
    p99_9_s, max_s = result.latency.percentiles_s([99.9, 100])
    assert p99_9_s == pytest.approx(SERVICE_S, rel=RELATIVE_ERROR, abs=2e-6)
    assert max_s == pytest.approx(STALL_S + SERVICE_S, rel=0.01)
    # Of 10 s it stood still for one.
    assert result.statuses[Status.ANSWERED] == pytest.approx(9000, abs=2)
    assert result.answered_per_s == pytest.approx(900, rel=0.01)


def test_a_generator_that_is_late_charges_itself() -> None:
    """Callers that may not begin, as too many run, count from when they were due."""

    async def slow() -> None:
        await asyncio.sleep(1.0)

    result = in_virtual_time(
        lambda now: run_open(
            slow, 10.0, 1.0, arrivals=Arrivals.CONSTANT, max_in_flight=1, now=now, grace_s=60.0
        )
    )
    # The n-th is due at n / 10 s and ends at 0.1 s + n * 1 s.
    assert result.latency.count == 9
    assert result.latency.max_s == pytest.approx(9.1 - 0.9)
    assert result.lag.max_s == pytest.approx(8.1 - 0.9)


def test_closed_loop_keeps_so_many_callers_busy() -> None:
    running, seen = 0, []

    async def call() -> None:
        nonlocal running
        running += 1
        seen.append(running)
        await asyncio.sleep(0.5)
        running -= 1

    result = in_virtual_time(lambda now: run_closed(call, 7, 10.0, now=now))
    assert max(seen) == 7
    assert result.statuses[Status.ANSWERED] == 7 * 20
    assert result.answered_per_s == pytest.approx(14.0)


@pytest.mark.parametrize("warm_up_s", [0.0, 3.0])
def test_warm_up_and_ramp_do_not_count(warm_up_s: float) -> None:
    begun: list[float] = []

    async def call() -> None:
        begun.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.01)

    options = {"warm_up_s": warm_up_s, "ramp_s": 2.0}
    closed = in_virtual_time(lambda now: run_closed(call, 4, 5.0, now=now, **options))
    first_begun = sorted(begun)
    assert first_begun[0] == 0.0
    assert sum(time_s < 0.5 for time_s in first_begun) == pytest.approx(50, abs=1)  # one caller
    assert closed.statuses[Status.ANSWERED] == pytest.approx(4 * 500, abs=4)
    begun.clear()
    opened = in_virtual_time(
        lambda now: run_open(call, 100.0, 5.0, arrivals=Arrivals.CONSTANT, now=now, **options)
    )
    assert opened.statuses[Status.ANSWERED] == pytest.approx(500, abs=1)
    # In the ramp, half of what the rate would make; after it, all.
    assert sum(time_s < 2.0 for time_s in begun) == pytest.approx(100, abs=1)
    assert len(begun) == pytest.approx(100 + (max(warm_up_s, 2.0) - 2.0 + 5.0) * 100, abs=1)


def test_statuses_are_counted_and_only_answers_have_latencies() -> None:
    kinds = iter([None, RuntimeError("broken"), TimeoutError(), None, RuntimeError("again")] * 2)

    async def call() -> None:
        await asyncio.sleep(0.1)
        error = next(kinds)
        if error is not None:
            raise error

    result = in_virtual_time(lambda now: run_closed(call, 1, 0.95, now=now))
    assert result.statuses == {Status.ANSWERED: 4, Status.FAILED: 4, Status.LATE: 2}
    assert result.latency.count == 4
    assert result.messages == {Status.FAILED: "broken", Status.LATE: "TimeoutError"}


def test_calls_without_an_answer_are_lost_and_cancelled() -> None:
    cancelled = 0

    async def call() -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise

    result = in_virtual_time(
        lambda now: run_open(
            call, 10.0, 2.05, arrivals=Arrivals.CONSTANT, warm_up_s=1.0, now=now, grace_s=5.0
        )
    )
    assert result.statuses == {Status.LOST: 21}
    assert cancelled == 30
    assert result.messages == {Status.LOST: "no answer within 5 s"}
    assert result.elapsed_s == pytest.approx(7.05)


def test_what_a_classifier_raises_ends_the_run() -> None:
    def classify(outcome: object) -> Status:
        raise LookupError("unknown outcome")

    async def call() -> None:
        await asyncio.sleep(0.1)

    for run in (run_closed, run_open):
        with pytest.raises(ExceptionGroup, match="TaskGroup") as group:
            in_virtual_time(lambda now, run=run: run(call, 1, 3.0, classify=classify, now=now))
        assert group.group_contains(LookupError)


def test_poisson_arrivals_have_the_gaps_of_their_distribution() -> None:
    times_s = due_times_s(50.0, Arrivals.POISSON, seed=3)
    gaps_s = np.diff([next(times_s) for _ in range(20_000)])
    # Exponential: mean and standard deviation are 1 / rate; 3% is 4 standard errors and more.
    assert gaps_s.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps_s.std() == pytest.approx(1 / 50, rel=0.05)
    assert np.mean(gaps_s > 2 / 50) == pytest.approx(np.exp(-2), rel=0.05)


def test_a_ramp_of_poisson_arrivals_grows_linearly() -> None:
    times_s = due_times_s(1000.0, Arrivals.POISSON, ramp_s=10.0, seed=5)
    times = np.array([next(times_s) for _ in range(10_000)])
    assert (np.diff(times) >= 0).all()
    for second in (2, 5, 10):  # the integral of 100 t
        assert np.sum(times < second) == pytest.approx(50 * second**2, rel=0.15)


def test_the_same_seed_makes_the_same_times() -> None:
    first, same, other = (due_times_s(10.0, Arrivals.POISSON, seed=seed) for seed in (1, 1, 2))
    times = [next(first) for _ in range(5)]
    assert times == [next(same) for _ in range(5)]
    assert times != [next(other) for _ in range(5)]


@pytest.mark.parametrize("number", [0, -1, float("nan"), float("inf")])
def test_numbers_out_of_range_are_refused(number: float) -> None:
    async def call() -> None:
        raise AssertionError

    for make in (
        lambda: run_closed(call, number, 1.0),
        lambda: run_closed(call, 1, number),
        lambda: run_open(call, number, 1.0),
        lambda: run_open(call, 1.0, number),
    ):
        with pytest.raises(ValueError, match=r"is .*; expected more than 0"):
            asyncio.run(make())
    if number != 0:
        for run in (run_closed, run_open):
            for name in ("warm_up_s", "ramp_s"):
                with pytest.raises(ValueError, match=f"{name} is .*; expected 0 or more"):
                    asyncio.run(run(call, 1, 1.0, **{name: number}))


def test_timers_of_the_precise_loop_are_not_rounded() -> None:
    """The wait that it asks of the system is the timer's, which epoll would make a millisecond."""
    asked: list[float] = []
    loop = precise_loop()
    selector = loop._selector  # type: ignore[attr-defined]
    select = selector._select

    def spy(readers: Any, writers: Any, failed: Any, timeout: float | None = None) -> Any:
        asked.append(timeout or 0.0)
        return select(readers, writers, failed, timeout)

    selector._select = spy
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(asyncio.sleep(3e-4))
    assert 0 < max(asked) <= 3e-4
