"""Lowers the learning rate when the model stands still on the held-out data.

The rule and its keys are those of `torch.optim.lr_scheduler.ReduceLROnPlateau`, with an absolute
threshold, and a patience that counts as early stopping's does: by one evaluation less.
"""

import math
from collections.abc import Mapping
from typing import Any

from train.callbacks.callbacks import Stateful
from train.callbacks.improvement import Improvement
from train.config.callbacks import ReduceOnPlateauConfig
from train.events import Action, Evaluated, Event, ScaleLearningRate


class ReduceOnPlateau(Stateful):
    """Answers evaluations: scales the rate after `patience` of them without a better one.

    Args:
        config: With a patience.
        metric: Which is to improve.
        improvement: What compares it.
    """

    def __init__(self, config: ReduceOnPlateauConfig, metric: str, improvement: Improvement):
        assert config.patience is not None  # by `callbacks_of`
        self._config, self._patience = config, config.patience
        self._metric, self._improvement = metric, improvement
        self._scale = 1.0
        self._cooldown = 0

    def __call__(self, event: Event) -> Action | None:
        if not isinstance(event, Evaluated) or event.is_final:
            return None
        self._improvement.take(event.metrics.get(self._metric, math.nan))
        if self._cooldown > 0:
            self._cooldown -= 1
            self._improvement.num_since = 0
        if self._improvement.num_since < self._patience:
            return None
        self._cooldown, self._improvement.num_since = self._config.cooldown, 0
        before = self._scale
        self._scale = max(before * self._config.factor, self._config.min_scale)
        return None if self._scale == before else ScaleLearningRate(self._scale / before)

    def state(self) -> dict[str, Any]:
        """See `Stateful`."""
        return {"scale": self._scale, "cooldown": self._cooldown, **self._improvement.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Stateful`."""
        self._scale, self._cooldown = state["scale"], state["cooldown"]
        self._improvement.restore(state)
