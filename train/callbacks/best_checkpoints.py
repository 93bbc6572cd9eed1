"""Has the best models that were evaluated saved, of which `checkpoint.keep_best` stay."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from train.callbacks.callbacks import Stateful
from train.events import Action, Evaluated, Event, Save


class BestCheckpoints(Stateful):
    """Answers evaluations: those that are among the best so far are saved.

    Args:
        num_kept: Of how many.
        metric: By which they are compared.
        mode: Whether less or more is better.
    """

    def __init__(self, num_kept: int, metric: str, mode: Literal["min", "max"]):
        self._num_kept, self._metric = num_kept, metric
        self._sign = 1 if mode == "max" else -1
        self._best: list[float] = []

    def __call__(self, event: Event) -> Action | None:
        if not isinstance(event, Evaluated) or event.is_final:
            return None
        value = event.metrics.get(self._metric, math.nan)
        is_among_them = value == value and (
            len(self._best) < self._num_kept or self._sign * value > self._sign * self._best[-1]
        )
        if not is_among_them:
            return None
        ranked = sorted([*self._best, value], key=lambda value: -self._sign * value)
        self._best = ranked[: self._num_kept]
        return Save()

    def state(self) -> dict[str, Any]:
        """See `Stateful`."""
        return {"best": self._best}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Stateful`."""
        self._best = list(state["best"])
