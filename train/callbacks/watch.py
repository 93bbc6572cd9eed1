"""Watches over the loss of every step."""

import math
from collections.abc import Sequence

from train.events import Abort, Action, Event, Losses


class Watch:
    """Answers losses that are no finite numbers.

    Args:
        advice: What to change about a run that diverges, for a human.
    """

    def __init__(self, advice: str):
        self._advice = advice

    def __call__(self, event: Event) -> Action | Sequence[Action] | None:
        if not isinstance(event, Losses):
            return None
        for step, loss in enumerate(event.losses, start=event.first):
            if not math.isfinite(loss):
                return Abort(f"the loss is no longer finite at step {step}; {self._advice}")
        return None
