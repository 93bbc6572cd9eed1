"""Which requests are taken: the one gate that every protocol goes through."""

import time

from serving.core.errors import Kind, ServingError, draining
from serving.core.model import ServedModel
from serving.core.request import Call
from serving.policies.token_bucket import RateLimitConfig, RateLimits


class Admission:
    """Counts the requests in this process and what they hold in memory.

    Args:
        max_requests: At once.
        max_bytes: Of all requests at once.
        rate: How often one client may ask one model; by default as often as it likes.

    Attributes:
        requests: That are being answered.
        bytes: What those hold.
        closed: Nothing is taken any more: the end of draining.
    """

    def __init__(
        self, max_requests: int, max_bytes: int, rate: RateLimitConfig | None = None
    ) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._rates = RateLimits(rate or RateLimitConfig())
        self.requests = 0
        self.bytes = 0
        self.closed = False

    def enter(self, call: Call, model: ServedModel) -> None:
        """Takes a request; `leave` must follow.

        Raises:
            ServingError: It is not taken, and `leave` must not follow.
        """
        if self.closed:
            raise draining()
        if self.requests >= self._max_requests:
            raise _full(f"{self._max_requests} requests are being answered", "too_many_requests")
        if self.requests and self.bytes + call.size_bytes > self._max_bytes:
            raise _full(f"requests hold {self.bytes} bytes", "too_many_bytes")
        wait_s = self._rates.take(time.monotonic(), call.client, model.name)
        if wait_s is not None:
            raise ServingError(
                Kind.OVERLOADED,
                f"too many requests to model {model.name!r} from this client; try again later",
                reason="rate_limited",
                retry_after_s=wait_s,
            )
        self.requests += 1
        self.bytes += call.size_bytes

    def leave(self, call: Call) -> None:
        """A request is over."""
        self.requests -= 1
        self.bytes -= call.size_bytes


def _full(what: str, reason: str) -> ServingError:
    return ServingError(
        Kind.OVERLOADED, f"{what}; try again later", reason=reason, retry_after_s=0.5
    )
