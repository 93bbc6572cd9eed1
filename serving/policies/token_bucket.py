"""How often a client may ask: token buckets, one for each client and model."""

import math
from collections import OrderedDict

from pydantic import Field

from base.config import Section

# A caller that waits exactly as long as it was told must be let in, whatever the rounding.
_ROUNDING = 1e-6


class RateLimitConfig(Section):
    """How many requests one client may send to one model."""

    requests_per_s: float | None = Field(
        default=None, gt=0, le=1e9, description="Requests a second; by default without limit"
    )
    burst: float = Field(
        default=10.0, ge=1, le=1e9, description="Requests at once, after a time without any"
    )
    max_clients: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="Pairs of client and model that are told apart; those beyond share one limit",
    )


class TokenBucket:
    """Grants `burst` tokens at once and `rate` a second from then on.

    Reference: RFC 2697 describes the same bucket for packets.

    Args:
        rate: tokens a second, above 0.
        burst: what it holds when full, and it begins full.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = 0.0  # when it held that many

    def take(self, now: float, tokens: float = 1.0) -> float | None:
        """Takes tokens and returns None; or takes none and returns the seconds until it has them.

        More tokens than it ever holds are there after infinite seconds.
        """
        self._fill(now)
        missing = tokens - self._tokens
        if missing <= _ROUNDING:
            self._tokens -= tokens
            return None
        return math.inf if tokens > self._burst else missing / self._rate

    def is_full(self, now: float) -> bool:
        """Whether forgetting it would make no difference."""
        self._fill(now)
        return self._tokens >= self._burst

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now


class RateLimits:
    """A token bucket for each pair of client and model, in bounded memory.

    A bucket that is full again is forgotten when room is needed. While none is, newcomers share one
    bucket: whoever invents clients competes with others of the kind, takes nothing from those who
    were there before, and gets no more than one client's rate.
    """

    def __init__(self, config: RateLimitConfig) -> None:
        self._rate = config.requests_per_s
        self._burst = config.burst
        self._max_clients = config.max_clients
        # In the order of their last use. One that was not used for burst / rate seconds is full, so
        # that if the first is not, hardly any is.
        self._buckets: OrderedDict[tuple[str, str], TokenBucket] = OrderedDict()
        self._shared = None if self._rate is None else TokenBucket(self._rate, self._burst)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, now: float, client: str, model: str, tokens: float = 1.0) -> float | None:
        """Returns None if the client may ask the model now, otherwise the seconds to wait."""
        if self._shared is None:
            return None
        key = (client, model)
        bucket = self._buckets.get(key)
        if bucket is not None:
            self._buckets.move_to_end(key)
        else:
            bucket = self._new_bucket(now, key)
        return bucket.take(now, tokens)

    def _new_bucket(self, now: float, key: tuple[str, str]) -> TokenBucket:
        assert self._rate is not None and self._shared is not None
        if len(self._buckets) >= self._max_clients:
            oldest = next(iter(self._buckets.values()))
            if not oldest.is_full(now):
                return self._shared
            self._buckets.popitem(last=False)
        bucket = self._buckets[key] = TokenBucket(self._rate, self._burst)
        return bucket
