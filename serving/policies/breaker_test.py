"""What a breaker lets pass, and when."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from serving.policies.breaker import BreakerConfig, CircuitBreaker, State


def breaker(uniform: float = 0.0, **config: float) -> CircuitBreaker:
    return CircuitBreaker(BreakerConfig.model_validate(config), lambda: uniform)


def call(
    target: CircuitBreaker, now: float, ok: bool = True, duration_s: float = 0.001
) -> float | None:
    """A request that is computed at once, if it may pass."""
    wait = target.allow(now)
    if wait is None:
        target.record(now, ok, duration_s, target.epoch)
    return wait


def opened(now: float = 0.0, uniform: float = 0.0, **config: float) -> CircuitBreaker:
    target = breaker(uniform, max_consecutive_failures=1, **config)
    call(target, now, ok=False)
    assert target.state is State.OPEN
    return target


def test_success_passes() -> None:
    target = breaker()
    assert [call(target, now) for now in range(100)] == [None] * 100
    assert target.state is State.CLOSED
    assert (target.openings, target.reason) == (0, "")


def test_failures_in_a_row_open_it_at_any_volume() -> None:
    target = breaker(max_consecutive_failures=3)
    for ok in (False, False, True, False, False):
        assert call(target, 1.0, ok) is None
    assert target.state is State.CLOSED
    call(target, 1.0, ok=False)
    assert target.state is State.OPEN
    assert (target.openings, target.reason) == (1, "3 failures in a row")


def test_a_rate_of_errors_opens_it_from_the_least_volume_on() -> None:
    target = breaker(max_consecutive_failures=100, min_computations=10, max_error_rate=0.5)
    outcomes = [False, True] * 4 + [True]
    for ok in outcomes:
        call(target, 1.0, ok)
    assert target.state is State.CLOSED
    call(target, 1.0, ok=False)
    assert target.state is State.OPEN
    assert target.reason == "5 of 10 failed within 10 s"


def test_fewer_than_the_rates_leave_it_closed() -> None:
    target = breaker(min_computations=5, slow_s=0.5)
    for _ in range(50):
        call(target, 1.0, ok=False)
        call(target, 1.0, duration_s=0.6)
        call(target, 1.0)
    assert target.state is State.CLOSED


def test_old_failures_do_not_count() -> None:
    target = breaker(max_consecutive_failures=100, min_computations=10, window_s=10.0)
    for _ in range(9):
        call(target, 1.0, ok=False)
    for _ in range(9):
        call(target, 20.0, ok=False)
    assert target.state is State.CLOSED
    call(target, 20.0, ok=False)
    assert target.state is State.OPEN


def test_slow_computations_open_it() -> None:
    target = breaker(min_computations=4, slow_s=0.5, max_slow_rate=0.5)
    for duration_s in (0.5, 0.1, 0.6):
        call(target, 1.0, duration_s=duration_s)
    assert target.state is State.CLOSED
    call(target, 1.0, duration_s=0.7)
    assert target.state is State.OPEN
    assert target.reason == "2 of 4 took over 0.5 s within 10 s"


def test_by_default_nothing_is_slow() -> None:
    target = breaker()
    for _ in range(100):
        call(target, 1.0, duration_s=3600.0)
    assert target.state is State.CLOSED


def test_open_it_tells_when_to_try_again() -> None:
    target = opened(now=10.0, open_s=4.0)
    assert target.allow(11.0) == pytest.approx(3.0)
    assert target.allow(13.5) == pytest.approx(0.5)
    assert target.allow(14.0) is None
    assert target.state is State.HALF_OPEN


def test_only_so_many_probes_pass() -> None:
    target = opened(open_s=1.0, probes=2)
    assert [target.allow(1.0) for _ in range(4)] == [None, None, 1.0, 1.0]
    assert target.allow(1.7) == pytest.approx(0.3)  # then these are given up


def test_who_comes_while_it_is_probed_waits_no_longer_than_the_shortest_open_time() -> None:
    target = opened(open_s=1.0, open_growth=10.0, probes=1)
    call(target, 1.0, ok=False)
    assert target.allow(11.0) is None
    assert target.allow(11.0) == pytest.approx(1.0)


def test_a_probe_that_succeeded_does_not_count_once_another_has_failed() -> None:
    target = opened(open_s=1.0, open_growth=1.0, probes=2)
    call(target, 1.0)
    call(target, 1.0, ok=False)
    call(target, 2.0)
    assert target.state is State.HALF_OPEN
    call(target, 2.0)
    assert target.state is State.CLOSED


def test_of_probes_that_are_given_up_those_that_succeeded_are_not_repeated() -> None:
    target = opened(open_s=1.0, probes=3)
    call(target, 1.0)
    assert [target.allow(1.0) for _ in range(2)] == [None] * 2
    target.cancelled(target.epoch, requests=3)  # one more than were allowed and are not known
    assert [target.allow(1.0) is None for _ in range(3)] == [True, True, False]
    assert [target.allow(2.0) is None for _ in range(3)] == [True, True, False]


def test_it_closes_after_all_probes_have_succeeded() -> None:
    target = opened(open_s=1.0, probes=2)
    assert call(target, 1.0) is None
    assert target.state is State.HALF_OPEN
    assert call(target, 1.0) is None
    assert target.state is State.CLOSED
    assert call(target, 1.0) is None


def test_probes_of_one_batch_count_each() -> None:
    target = opened(open_s=1.0, probes=3)
    assert [target.allow(1.0) for _ in range(3)] == [None] * 3
    target.record(1.1, True, 0.1, target.epoch, requests=3)
    assert target.state is State.CLOSED


def test_failures_before_it_opened_do_not_count_after_it_closed() -> None:
    target = breaker(max_consecutive_failures=3, min_computations=4, probes=1, open_s=1.0)
    for _ in range(3):
        call(target, 0.0, ok=False)
    assert call(target, 1.0) is None
    assert target.state is State.CLOSED
    for ok in (False, False, True):
        call(target, 1.0, ok)
        assert target.state is State.CLOSED
    call(target, 1.0)
    call(target, 1.0, ok=False)
    assert target.reason == "3 of 5 failed within 10 s"


@pytest.mark.parametrize(("ok", "duration_s"), [(False, 0.1), (True, 2.0)])
def test_a_probe_that_fails_or_is_slow_opens_it_again(ok: bool, duration_s: float) -> None:
    target = opened(open_s=1.0, open_growth=3.0, slow_s=1.0)
    assert call(target, 1.0, ok, duration_s) is None
    assert target.state is State.OPEN
    assert target.allow(1.0) == pytest.approx(3.0)


def test_the_open_time_grows_to_a_bound() -> None:
    target = opened(open_s=1.0, open_growth=2.0, max_open_s=5.0)
    now, times = 0.0, []
    for _ in range(5):
        wait = target.allow(now)
        assert wait is not None
        times.append(wait)
        now += wait
        assert call(target, now, ok=False) is None
    assert times == pytest.approx([1.0, 2.0, 4.0, 5.0, 5.0])


@pytest.mark.parametrize(("healthy_s", "expected"), [(9.5, 2.0), (10.0, 1.0)])
def test_the_open_time_starts_anew_after_a_healthy_window(
    healthy_s: float, expected: float
) -> None:
    target = opened(open_s=1.0, probes=1, window_s=10.0)
    assert call(target, 1.0) is None
    call(target, 1.0 + healthy_s, ok=False)
    assert target.allow(1.0 + healthy_s) == pytest.approx(expected)


@pytest.mark.parametrize(("uniform", "expected"), [(0.0, 10.0), (0.5, 8.5), (1.0, 7.0)])
def test_jitter_shortens_the_open_time(uniform: float, expected: float) -> None:
    assert opened(uniform=uniform, open_s=10.0, jitter=0.3).allow(0.0) == pytest.approx(expected)


def test_a_cancelled_probe_makes_room_for_another() -> None:
    target = opened(open_s=1.0, probes=1)
    assert target.allow(1.0) is None
    assert target.allow(1.0) is not None
    target.cancelled(target.epoch)
    assert target.allow(1.0) is None


def test_probes_that_are_never_heard_of_are_replaced() -> None:
    target = opened(open_s=2.0, probes=1)
    assert target.allow(2.0) is None
    assert target.allow(3.9) is not None
    assert target.allow(4.0) is None
    target.record(4.1, True, 0.1, target.epoch)
    assert target.state is State.CLOSED


def test_outcomes_of_another_epoch_say_nothing() -> None:
    target = breaker(max_consecutive_failures=1, open_s=1.0, probes=2)
    before = target.epoch
    call(target, 0.0, ok=False)
    assert target.allow(1.0) is None  # a probe, of two
    target.record(1.1, True, 0.1, before)
    target.record(1.1, False, 0.1, before)
    assert target.state is State.HALF_OPEN
    assert target.allow(1.1) is None  # the other
    target.cancelled(before)
    assert target.allow(1.1) is not None


class BreakerMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, a breaker keeps its word and comes back."""

    @initialize(probes=st.integers(1, 3))
    def start(self, probes: int) -> None:
        self.probes = probes
        self.target = breaker(probes=probes, open_s=1.0, max_open_s=8.0, min_computations=4)
        self.now = 0.0
        self.running: list[int] = []  # the epoch of each
        self.half_open_at = 0.0

    @rule()
    def ask(self) -> None:
        was_half_open = self.target.state is State.HALF_OPEN
        wait = self.target.allow(self.now)
        if wait is not None:
            assert 0 < wait <= 8.0
            return
        self.running.append(self.target.epoch)
        if self.target.state is State.HALF_OPEN:
            self.half_open_at = self.half_open_at if was_half_open else self.now
            # Once more so many for each time that all were given up, a second apart at least.
            times = 1 + (self.now - self.half_open_at) // 1.0
            assert self.running.count(self.target.epoch) <= self.probes * times

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(["ok", "failed", "cancelled"]))
    def end(self, data: st.DataObject, outcome: str) -> None:
        epoch = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        state, known = self.target.state, epoch == self.target.epoch
        if outcome == "cancelled":
            self.target.cancelled(epoch)
        else:
            self.target.record(self.now, outcome == "ok", 0.1, epoch)
        if not known or outcome == "cancelled":
            assert self.target.state is state
        elif outcome == "failed":
            assert self.target.state is not State.HALF_OPEN
        else:
            assert self.target.state is not State.OPEN

    @rule(seconds=st.floats(0.01, 3.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def teardown(self) -> None:
        """Once all is well again, it closes."""
        if not hasattr(self, "target"):
            return
        for _ in range(100):
            call(self.target, self.now)
            self.now += 1.0
        assert self.target.state is State.CLOSED


TestBreakerMachine = BreakerMachine.TestCase
