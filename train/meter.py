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
        learning_rate: Gives the rate of a step.
        callbacks: Whom to tell.
        mean_over_ranks: Of an array of float64; called whenever a report is due, with `[2, n]`,
            losses and accuracies of n steps, and if it has one, with `[]`, the clipped fraction. By
            default this rank has seen all images itself.
    """

    def __init__(
        self,
        config: TrainConfig,
        learning_rate: Callable[[int], SupportsFloat],
        callbacks: Sequence[Callback],
        mean_over_ranks: Callable[[np.ndarray], np.ndarray] = np.asarray,
    ):
        self._config = config
        self._learning_rate = learning_rate
        self._callbacks = callbacks
        self._mean_over_ranks = mean_over_ranks
        self._losses: list[SupportsFloat] = []
        self._accuracies: list[SupportsFloat] = []
        self._since = time.perf_counter()

    def is_due(self, step: int) -> bool:
        """Whether `record` of `step`, counted from 0, makes a report."""
        run = self._config.run
        return (step + 1) % run.log_every_steps == 0 or step + 1 == run.num_steps

    def record(
        self,
        step: int,
        loss: SupportsFloat,
        accuracy: SupportsFloat,
        clipped_fraction: SupportsFloat | None = None,
    ) -> None:
        """Takes the scalar results of `step`, counted from 0.

        Args:
            step: Which.
            loss: In nats.
            accuracy: Of the batch.
            clipped_fraction: See `StepReport`; looked at only if a report is due.

        Raises:
            TrainingError: The loss is no longer a finite number.
        """
        self._losses.append(loss)
        self._accuracies.append(accuracy)
        if self.is_due(step):
            self._report(step, clipped_fraction)

    def _report(self, step: int, clipped_fraction: SupportsFloat | None) -> None:
        # float() waits for the device.
        own = [[float(value) for value in values] for values in (self._losses, self._accuracies)]
        losses, accuracies = self._mean_over_ranks(np.array(own))
        if not np.isfinite(losses).all():
            raise TrainingError(
                f"the loss is no longer finite at step {step + 1}; lower "
                f"optimizer.{self._config.optimizer.name}.learning_rate or raise "
                "schedule.warmup_steps"
            )
        if clipped_fraction is not None:
            clipped_fraction = float(self._mean_over_ranks(np.array(float(clipped_fraction))))
        now = time.perf_counter()
        images = len(losses) * self._config.data.global_batch_size
        report = StepReport(
            step=step + 1,
            num_steps=self._config.run.num_steps,
            loss=float(np.mean(losses)),
            accuracy=float(np.mean(accuracies)),
            learning_rate=float(self._learning_rate(step)),
            images_per_s=images / (now - self._since),
            clipped_fraction=clipped_fraction,
        )
        for callback in self._callbacks:
            callback.on_step(report)
        self._losses, self._accuracies, self._since = [], [], now
