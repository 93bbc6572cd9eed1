"""How much a model may have to do at once, so that answers do not take long while it is overloaded.

A long queue makes nobody's answer come sooner: a replica that always finds a batch waiting computes
about as much with a short one, and each place more is waited for by all who come after. So while
requests have to be refused, no more are taken than are answered within a multiple of what a lone
request takes.

Callers who ask again when they have their answer fill no more than a place each, and refusing some
of them would help nobody. That is why a burst passes before anybody is refused; and why it is tried
from time to time whether another one would.

Reference: CoDel, which shortens a queue that does not drain, and lets bursts pass (K. Nichols and
V. Jacobson, "Controlling Queue Delay", 2012).
"""

from math import inf

from pydantic import Field

from base.config import Section
from serving.policies.service_time import ServiceTime


class LatencyConfig(Section):
    """How long answers may take while requests have to be refused."""

    enabled: bool = Field(default=True, description="Whether that is bounded")
    tolerance: float = Field(
        default=4.0,
        ge=2,
        le=10_000,
        description="Up to this multiple of what a lone request takes to compute; at 2 batches "
        "would hold one request",
    )
    min_s: float = Field(
        default=0.05,
        ge=0,
        le=3600,
        description="So long they may take in any case, seconds: with less, batches of a fast "
        "model would be small, and nobody the better for it",
    )
    burst: int = Field(
        default=32,
        ge=1,
        le=1_000_000,
        description="Examples that may be in work, however long they take, until one was refused",
    )
    hold_s: float = Field(
        default=1.0,
        gt=0,
        le=3600,
        description="So long nobody must have been refused before the next burst may come, seconds",
    )
    probe_s: float = Field(
        default=30.0,
        gt=0,
        le=86_400,
        description="After so long it may come in any case, seconds: callers who wait for their "
        "answers may have taken the place of those who do not",
    )


class LatencyBound:
    """The bound for one model.

    Args:
        config: how long answers may take.
        service_time: how long batches take, as far as it is known at the moment.
    """

    def __init__(self, config: LatencyConfig, service_time: ServiceTime) -> None:
        self._config = config
        self._service_time = service_time
        self._until = self._probe_at = -inf  # before both there is no room for a burst

    @property
    def answer_s(self) -> float:
        """Seconds within which, about, all are answered that are taken while others are not."""
        config = self._config
        return max(config.min_s, config.tolerance * self._service_time.estimate(1))

    def examples(self, now: float, max_batch_size: int, replicas: int) -> float:
        """How many may be in work, computed or before a newcomer; inf: any number.

        Args:
            now: the time.
            max_batch_size: of a batch.
            replicas: that compute, at least 1.
        """
        if not self._config.enabled:
            return inf
        examples = self._service_time.examples_within(self.answer_s, max_batch_size, replicas)
        if now < self._until:
            return examples
        return max(examples, self._config.burst)

    def refused(self, now: float, patience_s: float) -> None:
        """Learns that a request was refused for what others have asked.

        Args:
            now: when.
            patience_s: within which it should have been answered. Whoever would not have waited for
                a short queue either says nothing, and nobody else should be refused for it.
        """
        if patience_s < self.answer_s:
            return
        if now >= self._until:
            self._probe_at = now + self._config.probe_s
        self._until = min(now + self._config.hold_s, self._probe_at)
