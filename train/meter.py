"""Turns the results of single steps into reports."""

import time
from collections.abc import Callable, Sequence
from typing import SupportsFloat

import numpy as np

from train.callbacks import Callback, StepReport
from train.config import TrainConfig


class TrainingError(Exception):
    """A run that went wrong, where, and what to change."""


class Meter:
    """Gathers losses and accuracies and reports their means every `run.log_every_steps` steps.

    They are kept as the framework's own scalars until a report is due, so that an asynchronous
    device is not waited for at every step.

    Args:
        config: The run.
        learning_rates: `[num_steps]`, the rate of each step.
        callbacks: Whom to tell.
        mean_over_ranks: Of an array; called with `[2, n]` float64, losses and accuracies of n
            steps, whenever a report is due. By default this rank has seen all images itself.
    """

    def __init__(
        self,
        config: TrainConfig,
        learning_rates: np.ndarray,
        callbacks: Sequence[Callback],
        mean_over_ranks: Callable[[np.ndarray], np.ndarray] = np.asarray,
    ):
        self._config = config
        self._learning_rates = learning_rates
        self._callbacks = callbacks
        self._mean_over_ranks = mean_over_ranks
        self._losses: list[SupportsFloat] = []
        self._accuracies: list[SupportsFloat] = []
        self._since = time.perf_counter()

    def record(self, step: int, loss: SupportsFloat, accuracy: SupportsFloat) -> None:
        """Takes the scalar results of `step`, counted from 0.

        Raises:
            TrainingError: The loss is no longer a finite number.
        """
        self._losses.append(loss)
        self._accuracies.append(accuracy)
        run = self._config.run
        if (step + 1) % run.log_every_steps == 0 or step + 1 == run.num_steps:
            self._report(step)

    def _report(self, step: int) -> None:
        # float() waits for the device.
        own = [[float(value) for value in values] for values in (self._losses, self._accuracies)]
        losses, accuracies = self._mean_over_ranks(np.array(own))
        if not np.isfinite(losses).all():
            raise TrainingError(
                f"the loss is no longer finite at step {step + 1}; lower "
                f"optimizer.{self._config.optimizer.name}.learning_rate or raise "
                "schedule.warmup_steps"
            )
        now = time.perf_counter()
        images = len(losses) * self._config.data.global_batch_size
        report = StepReport(
            step=step + 1,
            num_steps=self._config.run.num_steps,
            loss=float(np.mean(losses)),
            accuracy=float(np.mean(accuracies)),
            learning_rate=float(self._learning_rates[step]),
            images_per_s=images / (now - self._since),
        )
        for callback in self._callbacks:
            callback.on_step(report)
        self._losses, self._accuracies, self._since = [], [], now
