"""How long requests that could leave wait for others to come along, while a replica is free.

By default not at all: while replicas compute, requests gather by themselves. Waiting pays only
where many callers send at about the same time, so that the first of them would leave alone and the
others wait for its whole computation.
"""

from pydantic import Field

from base.config import Section

# The weight of the latest gap between arrivals in the running mean.
_WEIGHT = 0.2
# After this many mean gaps without an arrival, the others do not come.
_PATIENCE = 3.0
# A longer gap says that a lull has ended, and nothing about those that follow, seconds.
_MAX_GAP_S = 1.0


class GatheringConfig(Section):
    """How long a request may wait for others, though a replica is free."""

    max_queue_delay_s: float = Field(
        default=0.0,
        ge=0,
        le=60,
        description="The longest, seconds; it is used only while requests come so densely that the "
        "next one is expected sooner than a computation of its own would take; 0: they leave at "
        "once",
    )


class Gathering:
    """The mean gap between arrivals at one model, and what follows from it."""

    __slots__ = ("_gap_s", "_last", "_max_delay_s")

    def __init__(self, config: GatheringConfig) -> None:
        self._max_delay_s = config.max_queue_delay_s
        self._gap_s = _MAX_GAP_S
        self._last = 0.0

    def arrived(self, now: float) -> None:
        """Takes note of a request, each of them."""
        if self._max_delay_s:
            gap_s = min(now - self._last, _MAX_GAP_S)
            self._gap_s += _WEIGHT * (gap_s - self._gap_s)
            self._last = now

    def wait_s(self, now: float, oldest: float, saving_s: float) -> float:
        """For how long to leave a queue alone that is not empty, while a replica is free.

        It is asked again at each arrival and after that time. A queue that fills a batch leaves
        without asking.

        Args:
            now: a time after the latest arrival.
            oldest: when the first of those that wait arrived.
            saving_s: of the replica's time for each request that comes along instead of being
                computed by itself: the part of a computation that does not grow with the batch.

        Returns:
            Seconds, 0 to leave at once.
        """
        if not self._max_delay_s or self._gap_s >= saving_s:
            return 0.0
        patience_s = self._last + _PATIENCE * self._gap_s - now
        budget_s = oldest + self._max_delay_s - now
        return max(0.0, min(patience_s, budget_s))
