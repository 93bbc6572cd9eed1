"""Turns the results of single steps into reports."""

import time
from collections.abc import Mapping
from typing import SupportsFloat

import numpy as np

from train.backends.backend import Backend, StepResult
from train.config.schema import TrainConfig
from train.events import Stepped


class TrainingError(Exception):
    """A run that went wrong, where, and what to change."""


class Meter:
    """Gathers what steps give and reports their means every `run.log_every_steps` steps.

    They are kept as the framework's own scalars until a report is due, so that an asynchronous
    device is not waited for at every step.

    Args:
        config: The run.
        backend: Averages over ranks, and speaks for the optimizer; asked only if a report is due.
        num_steps: In the whole run.
    """

    def __init__(self, config: TrainConfig, backend: Backend, num_steps: int):
        self._config = config
        self._backend = backend
        self._num_steps = num_steps
        self._unit = config.data.describe().unit
        self._results: list[StepResult] = []
        self._since = time.perf_counter()

    def record(self, step: int, learning_rate: SupportsFloat, result: StepResult) -> Stepped | None:
        """Takes the results of `step`, counted from 0; returns a report if one is due.

        Collective: every rank calls it.

        Raises:
            TrainingError: The loss is no longer a finite number.
        """
        self._results.append(result)
        if (step + 1) % self._config.run.log_every_steps and step + 1 != self._num_steps:
            return None
        means = self._means(step)
        fractions = self._backend.fractions()
        now = time.perf_counter()
        examples = len(self._results) * self._config.data.global_batch_size
        report = Stepped(
            step=step + 1,
            num_steps=self._num_steps,
            loss=means.pop("loss"),
            metrics=means,
            learning_rate=float(learning_rate),
            examples_per_s=examples / (now - self._since),
            unit=self._unit,
            fractions={
                name: float(self._backend.mean_over_ranks(np.array(float(fraction))))
                for name, fraction in fractions.items()
            },
        )
        self._results, self._since = [], now
        return report

    def _means(self, step: int) -> dict[str, float]:
        """Returns the mean over steps and ranks of the loss, "loss", and of each metric."""
        columns = {
            "loss": [result.loss for result in self._results],
            **{
                name: [result.metrics[name] for result in self._results]
                for name in self._results[0].metrics
            },
        }
        # float() waits for the device.
        own = np.array([[float(value) for value in values] for values in columns.values()])
        of_all = dict(zip(columns, self._backend.mean_over_ranks(own), strict=True))
        if not np.isfinite(of_all["loss"]).all():
            raise _diverged(f"the loss is no longer finite at step {step + 1}", self._config)
        return {name: float(np.mean(values)) for name, values in of_all.items()}


def require_finite(config: TrainConfig, metrics: Mapping[str, float]) -> None:
    """Refuses a model whose metrics on the held-out data are no numbers.

    Raises:
        TrainingError: One is infinite or NaN.
    """
    for name, value in metrics.items():
        if not np.isfinite(value):
            raise _diverged(f"{name} on the held-out data is {value}", config)


def _diverged(what: str, config: TrainConfig) -> TrainingError:
    return TrainingError(
        f"{what}; lower optimizer.{config.optimizer.name}.learning_rate or raise "
        "schedule.warmup_steps"
    )
