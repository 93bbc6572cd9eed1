"""Reports add up, over steps and over ranks, and are asked for only when due."""

from collections.abc import Callable, Mapping
from typing import SupportsFloat

import numpy as np
import pytest

from train.backends.backend import Backend, StepResult
from train.events import Losses, Stepped
from train.meter import Meter, TrainingError, require_finite
from train.phases import Phases
from train.testing.example import short_config


class _Ranks:
    """Of a backend what a meter asks."""

    def __init__(self, mean: Callable[[np.ndarray], np.ndarray], fraction: float | None = None):
        self.asked: list[tuple[int, ...]] = []
        self._mean, self._fraction = mean, fraction

    def fractions(self) -> Mapping[str, SupportsFloat]:
        return {} if self._fraction is None else {"clipped": self._fraction}

    def mean_over_ranks(self, values: np.ndarray) -> np.ndarray:
        self.asked.append(values.shape)
        return self._mean(values)


def _reports(ranks: _Ranks) -> list[Stepped]:
    """Seven steps, reported every three."""
    meter = Meter(short_config(num_steps=7, log_every_steps=3), _backend(ranks), 0, 7)
    reports = []
    for step, rate in enumerate(np.linspace(0.1, 0.7, 7, dtype=np.float32)):
        meter.record(StepResult(float(step), {"accuracy": step / 10}))
        if meter.is_due():
            meter.look()
            reports.append(meter.report(rate, Phases()))
    return reports


def test_a_report_is_the_mean_since_the_one_before() -> None:
    reports = _reports(_Ranks(np.asarray))
    assert [report.step for report in reports] == [3, 6, 7]
    assert [report.loss for report in reports] == [1.0, 4.0, 6.0]
    assert [report.metrics["accuracy"] for report in reports] == pytest.approx([0.1, 0.4, 0.6])
    assert [report.learning_rate for report in reports] == pytest.approx([0.3, 0.6, 0.7])
    assert [report.fractions for report in reports] == [{}, {}, {}]
    assert all(report.examples_per_s > 0 for report in reports)
    assert {report.unit for report in reports} == {"images"}


def test_a_report_is_the_mean_over_ranks_asked_for_only_when_due() -> None:
    ranks = _Ranks(lambda values: values / 2)
    reports = _reports(ranks)
    assert ranks.asked == [(2, 3), (2, 3), (2, 1)]
    assert [report.loss for report in reports] == [0.5, 2.0, 3.0]
    assert [report.metrics["accuracy"] for report in reports] == pytest.approx([0.05, 0.2, 0.3])


def test_fractions_are_means_over_ranks_too() -> None:
    reports = _reports(_Ranks(lambda values: values / 2, fraction=0.5))
    assert [report.fractions for report in reports] == 3 * [{"clipped": 0.25}]


def test_each_step_is_looked_at_once() -> None:
    meter = Meter(short_config(num_steps=9, log_every_steps=9), _backend(_Ranks(np.asarray)), 4, 9)
    for loss in (1.0, float("nan"), 3.0):
        meter.record(StepResult(loss, {}))
    first = meter.look()
    assert first is not None
    assert first.first == 5
    np.testing.assert_array_equal(first.losses, [1.0, np.nan, 3.0])
    assert meter.look() is None
    for loss in (4.0, 5.0):
        meter.record(StepResult(loss, {}))
    assert meter.look() == Losses(8, [4.0, 5.0], {})
    # Of a step that is skipped the loss is no part of the mean.
    assert meter.report(0.1, Phases()).loss == pytest.approx((1 + 3 + 4 + 5) / 4)


def _backend(ranks: _Ranks) -> Backend:
    backend: Backend = ranks  # type: ignore[assignment]
    return backend


def test_metrics_that_are_no_numbers_are_refused() -> None:
    config = short_config(num_steps=7)
    require_finite(config, {"accuracy": 0.5})
    with pytest.raises(
        TrainingError, match=r"loss_nats on the held-out data is nan; lower optimizer\.adamw\.lea"
    ):
        require_finite(config, {"accuracy": 0.5, "loss_nats": float("nan")})
