"""Ends a run whose model no longer gets better on the held-out data.

Reference: Prechelt, "Early Stopping - But When?", https://doi.org/10.1007/3-540-49430-8_3; keys are
those of `keras.callbacks.EarlyStopping`.
"""

import math
from collections.abc import Mapping
from typing import Any

from train.callbacks.callbacks import Stateful
from train.callbacks.improvement import Improvement
from train.config.callbacks import EarlyStoppingConfig
from train.events import Action, Evaluated, Event, KeepBest, Stop


class EarlyStopping(Stateful):
    """Answers evaluations: keeps the best, and stops after `patience` without a better one.

    Args:
        config: With a patience.
        metric: Which is to improve.
        improvement: What compares it.
    """

    def __init__(self, config: EarlyStoppingConfig, metric: str, improvement: Improvement):
        assert config.patience is not None  # by `callbacks_of`
        self._patience, self._restores = config.patience, config.restore_best
        self._metric, self._improvement = metric, improvement

    def __call__(self, event: Event) -> Action | None:
        if not isinstance(event, Evaluated) or event.is_final:
            return None
        if self._improvement.take(event.metrics.get(self._metric, math.nan)):
            return KeepBest() if self._restores else None
        if self._improvement.num_since < self._patience:
            return None
        best = self._improvement.best
        return Stop(
            f"{self._metric} has not improved in {self._improvement.num_since} evaluations; "
            f"the best was {'no number' if best is None else format(best, '.4f')}"
        )

    def state(self) -> dict[str, Any]:
        """See `Stateful`."""
        return self._improvement.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Stateful`."""
        self._improvement.restore(state)
