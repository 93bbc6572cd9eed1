"""Turns, shares and quartiles, on steps that only take notes."""

import functools
import itertools
import time

import pytest

from benchmarks.harness.timing import MIN_SAMPLES, SLOW_S, Step, measure_in_turns, summarize


def test_quartiles() -> None:
    timing = summarize([0.004, 0.001, 0.002, 0.003, 0.005])
    assert timing.samples == 5
    assert (timing.least_ms, timing.low_ms) == pytest.approx((1.0, 2.0))
    assert (timing.median_ms, timing.high_ms) == pytest.approx((3.0, 4.0))


def test_one_sample_is_its_own_quartiles() -> None:
    timing = summarize([0.25])
    assert timing.low_ms == timing.median_ms == timing.high_ms == timing.least_ms == 250.0


def test_sides_take_turns() -> None:
    notes: list[str] = []
    steps = {name: Step(functools.partial(notes.append, name)) for name in "ab"}
    # Said to take as long as a turn: no untimed runs, and one timed at least.
    first_s = {"a": 0.03, "b": 0.03}
    measure_in_turns(steps, first_s, budget_s=1e-9)
    changes = [here for here, before in zip(notes, [None, *notes], strict=False) if here != before]
    assert changes == ["a", "b"] * (len(changes) // 2)
    assert set(notes) == {"a", "b"}


def test_every_step_has_enough_samples_even_without_a_budget() -> None:
    steps = {"a": Step(lambda: None), "b": Step(lambda: None)}
    timings = measure_in_turns(steps, {"a": 0.1, "b": 0.1}, budget_s=1e-9)
    assert all(timing.samples >= MIN_SAMPLES for timing in timings.values())


def test_a_slow_first_run_is_a_sample() -> None:
    def fail() -> None:
        raise AssertionError("one run was enough")

    timings = measure_in_turns({"slow": Step(fail)}, {"slow": 2 * SLOW_S}, budget_s=1e-9)
    assert timings["slow"].samples == 1
    assert timings["slow"].median_ms == 2e3 * SLOW_S


def test_waits_for_every_result() -> None:
    waited: list[int] = []
    step = Step(lambda: 7, waited.append)
    timings = measure_in_turns({"a": step}, {"a": 0.1}, budget_s=1e-9)
    assert waited == [7] * timings["a"].samples


def test_queued_runs_are_waited_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    # A run takes 10 us, on a machine that is busy too.
    clock = itertools.count(0.0, 1e-5)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    runs: list[int] = []
    waits: list[int] = []
    step = Step(lambda: runs.append(1), waits.append)
    measure_in_turns({"a": step}, {"a": 1e-6}, budget_s=1e-9, queued=True)
    assert len(runs) > len(waits)


def test_no_steps() -> None:
    assert measure_in_turns({}, {}, budget_s=1.0) == {}
