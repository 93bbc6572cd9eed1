"""Latencies in bounded memory, however many there are.

The counters are those of HdrHistogram: each power of two is cut into as many equal steps, so that
the relative error is the same from microseconds to hours.

Reference: https://hdrhistogram.github.io/HdrHistogram/
"""

import math
from collections.abc import Sequence

import numpy as np

# Durations are counted in units of this.
_UNIT_S = 1e-6

# Each power of two is cut into 2**_STEP_BITS steps: what is reported is at most 1/128 too large.
_STEP_BITS = 7
_STEPS = 1 << _STEP_BITS
RELATIVE_ERROR = 1 / _STEPS

# About 19 hours. What is longer is counted there; the maximum is exact.
_OCTAVES = 36
_NUM_COUNTERS = _STEPS * (_OCTAVES - _STEP_BITS + 1)


class Histogram:
    """Counts durations in about 4,000 counters of 64 bits.

    Attributes:
        count: how many were recorded.
        max_s: the longest, exact; 0 if there is none.
    """

    def __init__(self) -> None:
        # A list: adding one to an element takes a fifth of the time that it takes in an array.
        self._counts = [0] * _NUM_COUNTERS
        self._sum_s = 0.0
        self.count = 0
        self.max_s = 0.0

    def record(self, duration_s: float) -> None:
        """Counts a duration; a negative one, by a coarse clock, is 0."""
        units = max(0, math.ceil(duration_s / _UNIT_S))
        self._counts[min(_index(units), _NUM_COUNTERS - 1)] += 1
        self._sum_s += duration_s
        self.count += 1
        self.max_s = max(self.max_s, duration_s)

    def add(self, other: "Histogram") -> None:
        """Counts what another has counted."""
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]
        self._sum_s += other._sum_s
        self.count += other.count
        self.max_s = max(self.max_s, other.max_s)

    @property
    def mean_s(self) -> float:
        """Exact but for rounding; NaN if there is none."""
        return self._sum_s / self.count if self.count else math.nan

    def percentiles_s(self, percents: Sequence[float]) -> list[float]:
        """For each percentage the duration that so many of them do not exceed.

        It is a counter's upper end: never too small, and at most 1 us and 1/128 too large. All are
        NaN if there is none.
        """
        if not self.count:
            return [math.nan] * len(percents)
        cumulative = np.cumsum(self._counts)
        ranks = [max(1, math.ceil(percent / 100 * self.count)) for percent in percents]
        indices = np.searchsorted(cumulative, ranks)
        return [min(_upper_end(int(index)) * _UNIT_S, self.max_s) for index in indices]


def _index(units: int) -> int:
    """The counter of a duration in units."""
    shift = max(0, units.bit_length() - _STEP_BITS - 1)
    # Up to 2**(_STEP_BITS + 1) each unit has a counter; then each octave has _STEPS of them.
    return (shift << _STEP_BITS) + (units >> shift)


def _upper_end(index: int) -> int:
    """The longest duration of a counter, in units."""
    shift = max(0, (index >> _STEP_BITS) - 1)
    step = index - (shift << _STEP_BITS)
    return ((step + 1) << shift) - 1
