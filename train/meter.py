"""Turns the results of single steps into reports."""

import math
import time
from collections.abc import Sequence
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
    """

    def __init__(
        self, config: TrainConfig, learning_rates: np.ndarray, callbacks: Sequence[Callback]
    ):
        self._config = config
        self._learning_rates = learning_rates
        self._callbacks = callbacks
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
        losses = [float(loss) for loss in self._losses]  # waits for the device
        accuracies = [float(accuracy) for accuracy in self._accuracies]
        if not all(map(math.isfinite, losses)):
            raise TrainingError(
                f"the loss is no longer finite at step {step + 1}; lower "
                "schedule.peak_learning_rate or raise schedule.warmup_steps"
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
