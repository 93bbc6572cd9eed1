"""Reports add up, over steps and over ranks, and are asked for only when due."""

from collections.abc import Callable, Mapping
from typing import SupportsFloat

import numpy as np
import pytest

from train.backends.backend import Backend, StepResult
from train.events import Stepped
from train.meter import Meter, TrainingError, require_finite
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
    backend: Backend = ranks  # type: ignore[assignment]
    meter = Meter(short_config(num_steps=7, log_every_steps=3), backend, 7)
    rates = np.linspace(0.1, 0.7, 7, dtype=np.float32)
    results = [StepResult(float(step), {"accuracy": step / 10}) for step in range(7)]
    reports = [meter.record(step, rates[step], results[step]) for step in range(7)]
    return [report for report in reports if report is not None]


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


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_diverged_loss_ends_the_run(loss: float) -> None:
    backend: Backend = _Ranks(np.asarray)  # type: ignore[assignment]
    meter = Meter(short_config(num_steps=7, log_every_steps=3), backend, 7)
    meter.record(0, 0.1, StepResult(loss, {"accuracy": 0.0}))
    meter.record(1, 0.1, StepResult(1.0, {"accuracy": 0.0}))
    with pytest.raises(
        TrainingError, match=r"no longer finite at step 3; lower optimizer\.adamw\.learning_rate"
    ):
        meter.record(2, 0.1, StepResult(1.0, {"accuracy": 0.0}))


def test_metrics_that_are_no_numbers_are_refused() -> None:
    config = short_config(num_steps=7)
    require_finite(config, {"accuracy": 0.5})
    with pytest.raises(
        TrainingError, match=r"loss_nats on the held-out data is nan; lower optimizer\.adamw\.lea"
    ):
        require_finite(config, {"accuracy": 0.5, "loss_nats": float("nan")})
