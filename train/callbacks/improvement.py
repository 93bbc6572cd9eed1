"""Whether what is measured gets better."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass
class Improvement:
    """Compares each value of a metric with the best before it.

    Attributes:
        mode: Whether less or more is better.
        min_delta: A value has to be better by more than this to count.
        best: The best so far; None: there is none.
        num_since: Values since then.
    """

    mode: Literal["min", "max"]
    min_delta: float
    best: float | None = None
    num_since: int = 0

    def take(self, value: float) -> bool:
        """Takes another value; returns whether it is an improvement. NaN never is."""
        sign = 1 if self.mode == "max" else -1
        best = self.best
        is_better = value == value if best is None else sign * (value - best) > self.min_delta
        if is_better:
            self.best, self.num_since = value, 0
        else:
            self.num_since += 1
        return is_better

    def state(self) -> dict[str, Any]:
        """Returns what later answers depend on."""
        return {"best": self.best, "num_since": self.num_since}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state."""
        self.best, self.num_since = state["best"], state["num_since"]
