"""How many requests may be in work at once, found by what more of them do to latency.

While latency stays near the least that was seen, more are let in; once it is a multiple of that,
the surplus only waits, and the limit shrinks. References: the gradient controller of Envoy's
adaptive concurrency filter, from which come the least latency as the measure, a square root as room
for bursts, and measuring anew once the limit stays at its minimum; and Gradient2 of Netflix's
concurrency-limits, from which come the smoothing, and that a limit which is not reached does not
grow. Envoy also lowers the limit once a minute to measure the least latency; that would refuse
requests without need.
"""

from math import sqrt
from statistics import median
from typing import Self

from pydantic import Field, model_validator

from base.config import Section

# A window shrinks the limit by no more, so that one bad window does not end the service.
_MIN_GRADIENT = 0.5
# How far a window moves the limit down towards what it says. Up it goes at once: to refuse without
# need is worse than a few milliseconds.
_SMOOTHING = 0.2
# A window with as many samples ends early: more say no more of a median.
_MAX_SAMPLES = 500
# What a lost request takes from the limit, once a window: the decrease of Netflix's AIMD limit.
_DROP_FACTOR = 0.9
# After so many windows in a row at the least limit, what is measured there is the least latency:
# the model itself must have become slower.
_WINDOWS_AT_MINIMUM = 5


class ConcurrencyConfig(Section):
    """Within which bounds, and by which latency, the number of requests in work is limited."""

    enabled: bool = Field(default=True, description="Whether there is an adaptive limit")
    min_limit: int = Field(
        default=128,
        ge=1,
        le=1_000_000,
        description="It is never less; below two full batches, batches would not fill",
    )
    max_limit: int = Field(default=4096, ge=1, le=1_000_000, description="It is never more")
    initial_limit: int = Field(
        default=256, ge=1, le=1_000_000, description="Before anything is measured"
    )
    tolerance: float = Field(
        default=2.0,
        ge=1,
        le=100,
        description="Up to this multiple of the least latency it grows",
    )
    window_s: float = Field(
        default=0.1, ge=0.001, le=60, description="Time between changes, seconds"
    )
    min_samples: int = Field(
        default=10, ge=1, le=500, description="Answers that a window needs to say anything"
    )

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.min_limit <= self.initial_limit <= self.max_limit:
            raise ValueError(
                f"expected min_limit <= initial_limit <= max_limit, got {self.min_limit}, "
                f"{self.initial_limit} and {self.max_limit}"
            )
        return self


class ConcurrencyLimit:
    """An adaptive limit for one model.

    What is given as latency need not be seconds, only comparable. Of a server that batches it
    should be the stretch: the time from admission to the answer, divided by the time that the batch
    took to compute. A lone request has 1; where batches follow one another, a request waits for up
    to one before its own, which is 2. What is above comes from waiting, while larger batches, which
    take longer by themselves, do not count as congestion.

    Args:
        config: bounds and speed.
        least: the least latency, where it is known, such as 1 for the stretch. Otherwise it is that
            of the best window, and the limit begins at its minimum: the first window that is
            measured must not be a congested one.

    Attributes:
        limit: how many requests may be in work now.
        least: the least latency that is known, 0 before the first window.
    """

    def __init__(self, config: ConcurrencyConfig, least: float = 0.0) -> None:
        self.limit = config.initial_limit if least else config.min_limit
        self.least = least
        self._known = least > 0
        self._config = config
        self._exact = float(self.limit)  # what `limit` is rounded from
        self._at_minimum = 0  # windows in a row
        self._samples: list[float] = []  # of this window, as all that follows
        self._most_in_flight = 0
        self._dropped = False
        self._ends = config.window_s

    def record(self, now: float, latency: float, in_flight: int, dropped: bool = False) -> None:
        """Learns from a request that is done.

        Args:
            now: when.
            latency: see the class.
            in_flight: requests in work, this one included.
            dropped: it was lost for want of capacity, such as by its deadline: its latency says
                nothing, and that it was lost all.
        """
        if dropped:
            self._dropped = True
        else:
            self._samples.append(latency)
        if in_flight > self._most_in_flight:
            self._most_in_flight = in_flight
        if now >= self._ends or len(self._samples) >= _MAX_SAMPLES:
            self._end_window(now)

    def _begin(self, now: float) -> None:
        self._samples = []
        self._most_in_flight = 0
        self._dropped = False
        self._ends = now + self._config.window_s

    def _end_window(self, now: float) -> None:
        config = self._config
        enough = len(self._samples) >= config.min_samples
        if not enough and not self._dropped:
            return  # it goes on
        if enough:
            self._learn(median(self._samples))
        if self._dropped:
            self._exact *= _DROP_FACTOR
        self._exact = min(max(self._exact, config.min_limit), config.max_limit)
        self.limit = int(self._exact)
        self._at_minimum = self._at_minimum + 1 if self.limit == config.min_limit else 0
        self._begin(now)

    def _learn(self, latency: float) -> None:
        if not self._known and (
            self._at_minimum >= _WINDOWS_AT_MINIMUM or not 0 < self.least <= latency
        ):
            self.least = latency
            self._at_minimum = 0
        # A limit that is not reached says nothing about a higher one.
        if self._most_in_flight < self._exact / 2:
            return
        gradient = 1.0
        if latency > 0:
            gradient = self._config.tolerance * self.least / latency
        gradient = min(max(gradient, _MIN_GRADIENT), 1.0)
        step = self._exact * (gradient - 1) + sqrt(self._exact)
        self._exact += step if step > 0 else _SMOOTHING * step
