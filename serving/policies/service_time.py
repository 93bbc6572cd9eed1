"""How long a batch takes, learned from those before it, and what that means for who waits."""

from collections import deque
from math import inf
from statistics import median

from pydantic import Field

from base.config import Section

# A batch that took this many times what the others say counts as if it had taken that: a pause of
# the process says little about the model, while a model that has become slower is followed still.
_OUTLIER = 2.0
# Each round of fitting finds the outliers by the line of the round before.
_ROUNDS = 2
# A fit costs some 20 us, so one is made for each so many batches,
_REFIT_EVERY = 8
# One that is by so much larger than all of them is news.
_NEWS = 1.25
# What a lone request took before counts as so many of the latest batches.
_MEMORY = 4.0
# No batch is expected to take less, seconds; it keeps weights finite.
_MIN_S = 1e-6


class ServiceTimeConfig(Section):
    """From which batches the time of the next one is estimated."""

    window: int = Field(
        default=32, ge=2, le=10_000, description="Latest batches that the estimate is made from"
    )
    skip: int = Field(
        default=2, ge=0, le=1000, description="First batches that are not, as they are slower"
    )


class ServiceTime:
    """Estimates a batch's time as a * n + b with a, b >= 0, by least squares over the latest.

    The squares are of relative errors: a batch that takes ten times as long is uncertain by ten
    times as much, and small batches would be estimated by what is left of the large ones' noise.

    Attributes:
        per_example_s: a, seconds for each example more.
        per_batch_s: b, seconds that a batch takes whatever its size: what is saved for each
            request that comes along in another's batch.

    Reference: BentoML's dispatcher estimates the same line.
    """

    def __init__(self, config: ServiceTimeConfig) -> None:
        self.per_example_s = 0.0
        self.per_batch_s = 0.0
        self._latest: deque[tuple[int, float]] = deque(maxlen=config.window)
        self._to_skip = config.skip
        self._unfitted = 0
        self._largest = 0  # of those examples
        self._lone_s: float | None = None  # what one example took when that was known last

    def record(self, examples: int, duration_s: float) -> None:
        """Learns from a batch that was computed without a fault.

        Args:
            examples: as many as cost time, so with padding where the model pads.
            duration_s: of the computation and the way to the replica and back, without a queue.
        """
        if self._to_skip:
            self._to_skip -= 1
            return
        # What batches of a size take that was not seen is learned from the first one: with more
        # requests than ever before they grow from batch to batch, and each is better known.
        is_new = examples > _NEWS * self._largest
        self._latest.append((examples, duration_s))
        self._unfitted += 1
        if is_new or self._unfitted >= _REFIT_EVERY or len(self._latest) <= _REFIT_EVERY:
            self._unfitted = 0
            self._fit()

    def estimate(self, examples: int) -> float:
        """Seconds that a batch takes; 0 while nothing is known."""
        return self.per_example_s * examples + self.per_batch_s

    def wait_estimate(
        self,
        ahead: int,
        examples: int,
        max_batch_size: int,
        replicas: int = 1,
        running_s: float = 0.0,
    ) -> float:
        """Seconds within which a newcomer cannot be answered, however well it goes.

        It is a lower bound: those ahead leave in the fewest batches, some of them along with the
        newcomer, and all other replicas begin a full batch right before it. So what is shed by it
        could not have been answered in time.

        Args:
            ahead: examples that leave before the newcomer's.
            examples: the newcomer's own.
            max_batch_size: of a batch.
            replicas: that compute at the same time, at least 1.
            running_s: until the first of them is free.
        """
        work_s = self.per_example_s * ahead + self.per_batch_s * (ahead // max_batch_size)
        others_s = (replicas - 1) * self.estimate(max_batch_size)
        return running_s + max(0.0, work_s - others_s) / replicas + self.estimate(examples)

    def examples_within(self, answer_s: float, max_batch_size: int, replicas: int = 1) -> float:
        """Examples that may be in work, so that each is answered within a time; inf: any number.

        What is in work is one batch that is computed and one that waits, of whatever sizes, or more
        full ones. They are always so many that half as much is computed as by full batches: where
        batches take longer for another reason, smaller ones would make it worse. And they are at
        least two for each replica, one that it computes and one that waits.

        Args:
            answer_s: from admission to the answer.
            max_batch_size: of a batch.
            replicas: that compute at the same time, at least 1.
        """
        a, b = self.per_example_s, self.per_batch_s
        full_s = a * max_batch_size + b
        if not full_s:
            return inf
        if answer_s >= 2 * full_s:
            examples = max_batch_size * float(answer_s // full_s)
        else:
            examples = max(0.0, answer_s - 2 * b) / a if a else 0.0
            examples = max(examples, 2.0, 2 * max_batch_size * b / (full_s + b))
        return replicas * examples

    def _fit(self) -> None:
        sizes = [examples for examples, _ in self._latest]
        durations = [duration_s for _, duration_s in self._latest]
        self._largest = max(sizes)
        a, b = self.per_example_s, self.per_batch_s
        if a == b == 0.0:
            b = median(durations)
        for _ in range(_ROUNDS):
            expected = [max(a * n + b, _MIN_S) for n in sizes]
            # By how much all of them are slower than the line that was.
            factor = median(t / e for t, e in zip(durations, expected, strict=True))
            limit = _OUTLIER * factor
            clipped = [min(t, limit * e) for t, e in zip(durations, expected, strict=True)]
            weights = [1 / (e * e) for e in expected]
            if self._lone_s is not None:
                # Of batches of one size nobody could tell a from b; what was known of them stays.
                weight = _MEMORY / max(a + b, _MIN_S) ** 2
                a, b = _line([*sizes, 1], [*clipped, self._lone_s], [*weights, weight])
            else:
                a, b = _line(sizes, clipped, weights)
        self.per_example_s, self.per_batch_s = a, b
        if self._lone_s is not None or min(sizes) < max(sizes) or max(sizes) == 1:
            self._lone_s = a + b


def _line(xs: list[int], ys: list[float], weights: list[float]) -> tuple[float, float]:
    """Returns (a, b), both at least 0, with the least sum of weight * (a x + b - y)^2."""
    points = list(zip(weights, xs, ys, strict=True))
    total = sum(weights)
    mean_x = sum(w * x for w, x, _ in points) / total
    mean_y = sum(w * y for w, _, y in points) / total
    spread = sum(w * (x - mean_x) ** 2 for w, x, _ in points)
    if spread <= 0:
        return 0.0, mean_y
    a = sum(w * (x - mean_x) * (y - mean_y) for w, x, y in points) / spread
    if a <= 0:
        return 0.0, mean_y
    b = mean_y - a * mean_x
    if b < 0:
        return sum(w * x * y for w, x, y in points) / sum(w * x * x for w, x, _ in points), 0.0
    return a, b
