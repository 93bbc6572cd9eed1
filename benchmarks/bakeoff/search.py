"""Tunes a learning rate and a decay by a given number of trials, the same for every optimizer.

One coordinate at a time, from a starting point: a step up, or down where up is worse, and on in the
direction that helps, until the best is between two that are worse; then the other one; then both
again in steps half as large, till the trials are spent. A bad starting point so costs trials and
does not decide.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

# Between neighbours at first, the factor; by its root in the next round.
_FACTORS = {"learning_rate": 2.0, "weight_decay": 4.0}

# Then neighbours differ by less than 0.1%.
_MOST_ROUNDS = 10


class Point(NamedTuple):
    """What is tuned."""

    learning_rate: float
    weight_decay: float


class Trial(NamedTuple):
    """A point and the loss that it led to; infinite where training diverged."""

    point: Point
    loss: float


def search(evaluate: Callable[[Point], float], start: Point, num_trials: int) -> list[Trial]:
    """Returns the trials in the order in which they were made; the least loss is the result.

    Args:
      evaluate: gives the loss of a point; NaN and infinity count as worst.
      start: the first point.
      num_trials: evaluations; fewer only where a factor of less than 0.1% would be left to try.
    """
    losses: dict[Point, float] = {}

    def loss_of(point: Point) -> float | None:
        """None where the budget is spent."""
        if point not in losses:
            if len(losses) == num_trials:
                return None
            loss = evaluate(point)
            losses[point] = loss if math.isfinite(loss) else math.inf
        return losses[point]

    loss_of(start)
    for coordinate, factor in _rounds():
        best = min(losses, key=losses.__getitem__)
        for direction in (factor, 1 / factor):
            before = best
            for point in _along(best, coordinate, direction):
                loss = loss_of(point)
                if loss is None or loss >= losses[best]:
                    break
                best = point
            if best != before:
                break  # where it came from is worse
    return [Trial(point, loss) for point, loss in losses.items()]


def _rounds() -> Iterator[tuple[str, float]]:
    for number in range(_MOST_ROUNDS):
        for coordinate, factor in _FACTORS.items():
            yield coordinate, factor**0.5**number


def _along(point: Point, coordinate: str, factor: float) -> Iterator[Point]:
    while True:
        value = getattr(point, coordinate) * factor
        # Of so many digits that the way there does not matter.
        point = point._replace(**{coordinate: float(f"{value:.4g}")})
        yield point
