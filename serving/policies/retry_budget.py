"""How many requests may be tried again: a share of all, so that retries never multiply a fault.

Reference: Finagle's RetryBudget and Linkerd's, which have the same three parameters; gRPC's A6
throttles retries to the same end.
"""

from pydantic import Field

from base.config import Section
from serving.policies.rolling_counts import RollingCounts


class RetryConfig(Section):
    """How many requests are tried again on another replica."""

    share: float = Field(
        default=0.2, ge=0, le=10, description="Retries for each request of the window"
    )
    min_per_s: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        description="Retries a second that are always allowed, for times with few requests",
    )
    window_s: float = Field(
        default=10.0, ge=0.1, le=3600, description="Requests that are older do not count, seconds"
    )


_REQUESTS, _RETRIES = range(2)


class RetryBudget:
    """Counts requests and retries of the window. An infrequent event, so no hot path but `add`."""

    def __init__(self, config: RetryConfig) -> None:
        self._share = config.share
        self._reserve = config.min_per_s * config.window_s
        self._counts = RollingCounts(config.window_s, 2)

    def add(self, now: float, requests: int = 1) -> None:
        """Counts requests that came, each once, however often it is tried."""
        self._counts.add(now, _REQUESTS, requests)

    def take(self, now: float, retries: int = 1) -> bool:
        """Whether so many requests may be tried again; if so, they are counted."""
        self._counts.advance(now)
        requests, spent = self._counts.totals
        if spent + retries > self._reserve + self._share * requests:
            return False
        self._counts.add(now, _RETRIES, retries)
        return True
