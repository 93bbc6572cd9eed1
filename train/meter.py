"""Turns the results of single steps into reports."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import SupportsFloat

import numpy as np

from train.backends.backend import Backend, StepResult
from train.config.schema import TrainConfig
from train.events import Losses, Stepped
from train.phases import Phases


class TrainingError(Exception):
    """A run that went wrong, where, and what to change."""


class Meter:
    """Gathers what steps give, and reports their means every `run.log_every_steps` steps.

    They are kept as the framework's own scalars until they are looked at, so that an asynchronous
    device is not waited for at every step.

    Args:
        config: The run.
        backend: Averages over ranks, and speaks for the optimizer; asked only if a report is due.
        first: Steps that were made before.
        num_steps: In the whole run.
    """

    def __init__(self, config: TrainConfig, backend: Backend, first: int, num_steps: int):
        self._config = config
        self._backend = backend
        self._num_steps = num_steps
        self._unit = config.data.describe().unit
        self._step = first
        self._results: list[StepResult] = []
        self._looked_at: list[Losses] = []
        self._since = time.perf_counter()

    def record(self, result: StepResult) -> None:
        """Takes the results of the next step."""
        self._results.append(result)
        self._step += 1

    def look(self) -> Losses | None:
        """Waits for the results of all steps, and returns those that were not looked at before.

        Collective: every rank calls it.
        """
        if not self._results:
            return None
        columns = {
            "loss": [result.loss for result in self._results],
            **{
                name: [result.metrics[name] for result in self._results]
                for name in self._results[0].metrics
            },
        }
        # float() waits for the device.
        own = np.array([[float(value) for value in values] for values in columns.values()])
        of_all = dict(zip(columns, self._backend.mean_over_ranks(own).tolist(), strict=True))
        first = self._step - len(self._results) + 1
        losses = Losses(first, of_all.pop("loss"), of_all)
        self._looked_at.append(losses)
        self._results = []
        return losses

    def is_due(self) -> bool:
        """Whether a report is."""
        return self._step % self._config.run.log_every_steps == 0 or self._step == self._num_steps

    def report(self, learning_rate: SupportsFloat, phases: Phases) -> Stepped:
        """Returns the means over the steps since the report before, which were all looked at.

        Collective: every rank calls it.

        Args:
            learning_rate: Of the latest step.
            phases: What it took since then.
        """
        fractions = self._backend.fractions()
        now = time.perf_counter()
        looked_at, self._looked_at = self._looked_at, []
        num_steps = sum(len(losses.losses) for losses in looked_at)
        examples = num_steps * self._config.data.global_batch_size
        report = Stepped(
            step=self._step,
            num_steps=self._num_steps,
            loss=_mean([losses.losses for losses in looked_at]),
            metrics={
                name: _mean([losses.metrics[name] for losses in looked_at])
                for name in looked_at[0].metrics
            },
            learning_rate=float(learning_rate),
            examples_per_s=examples / (now - self._since),
            unit=self._unit,
            fractions={
                name: float(self._backend.mean_over_ranks(np.array(float(fraction))))
                for name, fraction in fractions.items()
            },
            phases=phases.take(num_steps),
        )
        self._since = now
        return report


def _mean(parts: Iterable[Sequence[float]]) -> float:
    """Returns the mean of what is a number among several sequences; of steps skipped it is none."""
    values = np.array([value for part in parts for value in part])
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def require_finite(config: TrainConfig, metrics: Mapping[str, float]) -> None:
    """Refuses a model whose metrics on the held-out data are no numbers.

    Raises:
        TrainingError: One is infinite or NaN.
    """
    for name, value in metrics.items():
        if not np.isfinite(value):
            raise TrainingError(f"{name} on the held-out data is {value}; {advice(config)}")


def advice(config: TrainConfig) -> str:
    """Returns what to change about a run that diverges."""
    return f"lower optimizer.{config.optimizer.name}.learning_rate or raise schedule.warmup_steps"
