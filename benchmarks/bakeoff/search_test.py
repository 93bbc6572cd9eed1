"""The search finds what there is to find, within its budget."""

import math

import pytest

from benchmarks.bakeoff.search import Point, search

_BEST = Point(3e-3, 0.1)


def _bowl(point: Point) -> float:
    rate = math.log(point.learning_rate / _BEST.learning_rate)
    decay = math.log(point.weight_decay / _BEST.weight_decay)
    return rate**2 + 0.1 * decay**2


@pytest.mark.parametrize("start", [_BEST, Point(1e-4, 0.1), Point(1e-1, 3.0), Point(3e-3, 1e-3)])
def test_finds_the_bottom_from_anywhere(start: Point) -> None:
    best = min(search(_bowl, start, 20), key=lambda trial: trial.loss)
    assert best.point.learning_rate == pytest.approx(_BEST.learning_rate, rel=0.25)
    assert best.point.weight_decay == pytest.approx(_BEST.weight_decay, rel=0.6)


@pytest.mark.parametrize("num_trials", [1, 2, 5, 12, 30])
def test_spends_its_budget_and_tries_no_point_twice(num_trials: int) -> None:
    seen: list[Point] = []

    def evaluate(point: Point) -> float:
        seen.append(point)
        return _bowl(point)

    trials = search(evaluate, Point(1e-1, 3.0), num_trials)
    assert [trial.point for trial in trials] == seen
    assert len(seen) == len(set(seen)) == num_trials


def test_divergence_counts_as_worst() -> None:
    def evaluate(point: Point) -> float:
        return math.nan if point.learning_rate > 1e-2 else _bowl(point)

    trials = search(evaluate, Point(8e-3, 0.1), 8)
    assert math.inf in [trial.loss for trial in trials]
    assert min(trials, key=lambda trial: trial.loss).point.learning_rate < 5e-3
