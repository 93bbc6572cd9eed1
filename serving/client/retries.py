"""Whether and when a call that was refused is made again: pure, with injected chance.

The rules are those of gRPC's own retries, with three differences. Waits are drawn from the whole
interval below the backoff ("full jitter"), since many clients that were refused at once should not
come back at once. A server's pushback is the least that is waited, and jitter is added to it for
the same reason. And what a call has left of its deadline is known here: it is not made again if it
would have to wait longer than that.

References: https://github.com/grpc/proposal/blob/master/A6-client-retries.md and, for the jitter,
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
"""

import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

import grpc

PUSHBACK_KEY = "grpc-retry-pushback-ms"

# With these a server says that it did not process the request. Others may have cost it the work.
RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)

# gRPC's own refusals of messages above a limit; the next attempt would be as large.
_TOO_LARGE = re.compile(r"message larger than max", re.IGNORECASE)

_SIGNED_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,9})", re.ASCII)

# A6: a client makes no more, whatever it is told to.
MAX_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a client tries again. service_config.json says the same to gRPC's own retries.

    Attributes:
        max_attempts: of one call, the first counted; 1: never again.
        initial_backoff_s: the first wait is drawn from 0 to this,
        backoff_multiplier: each further one from an interval so many times as long,
        max_backoff_s: but no longer than this.
        budget_tokens: what the budget holds. A refusal takes a token, and while no more than half
            of them are left nothing is tried again.
        token_ratio: what an answer gives back. So a server that refuses for long is asked at most
            1 + token_ratio times for each answer that it gives.

    Raises:
        ValueError: a value is outside its range.
    """

    max_attempts: int = MAX_ATTEMPTS
    initial_backoff_s: float = 0.1
    backoff_multiplier: float = 2.0
    max_backoff_s: float = 2.0
    budget_tokens: float = 100.0
    token_ratio: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.max_attempts <= MAX_ATTEMPTS:
            raise ValueError(
                f"max_attempts is {self.max_attempts}; expected from 1 to {MAX_ATTEMPTS}"
            )
        for name in ("initial_backoff_s", "max_backoff_s", "budget_tokens", "token_ratio"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0")
        if not 1 <= self.backoff_multiplier < math.inf:
            raise ValueError(f"backoff_multiplier is {self.backoff_multiplier}; expected 1 or more")

    def backoff_s(self, attempts: int) -> float:
        """The longest wait after so many attempts, from 1 on."""
        grown = self.initial_backoff_s * self.backoff_multiplier ** (attempts - 1)
        return min(grown, self.max_backoff_s)


class RetryBudget:
    """What all calls of a client may try again together, so that overload is not made worse.

    It may be used from several threads.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._full = policy.budget_tokens
        self._ratio = policy.token_ratio
        self._tokens = policy.budget_tokens
        self._lock = threading.Lock()

    def answered(self) -> None:
        """Gives back a part of a token."""
        if self._tokens < self._full:  # nearly always full: then without the lock
            with self._lock:
                self._tokens = min(self._full, self._tokens + self._ratio)

    def refused(self) -> bool:
        """Takes a token, and tells whether the call may be made again."""
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1.0)
            return self._tokens > self._full / 2


@dataclass(frozen=True, slots=True)
class Refusal:
    """An attempt that failed, as gRPC reports it.

    Attributes:
        code: the status.
        details: the server's or gRPC's words.
        pushback_s: as `pushback_s` reads it.
    """

    code: grpc.StatusCode
    details: str
    pushback_s: float | None


def wait_before_retry(
    refusal: Refusal,
    *,
    attempts: int,
    remaining_s: float,
    policy: RetryPolicy,
    budget: RetryBudget,
    draw: Callable[[], float],
) -> float | None:
    """Decides about a refusal, and counts it.

    Args:
        refusal: of the latest attempt.
        attempts: made so far.
        remaining_s: until the call's deadline.
        policy: of the client.
        budget: of the client.
        draw: uniform in [0, 1).

    Returns:
        Seconds until the next attempt; None: there is none.
    """
    if refusal.code not in RETRYABLE:
        return None
    within_budget = budget.refused()
    if attempts >= policy.max_attempts or not within_budget or _TOO_LARGE.search(refusal.details):
        return None
    wait_s = (refusal.pushback_s or 0.0) + draw() * policy.backoff_s(attempts)
    return wait_s if wait_s < remaining_s else None


def pushback_s(values: list[str]) -> float | None:
    """Reads the values of the trailing metadata `grpc-retry-pushback-ms`.

    Returns:
        Seconds; infinite for "never": a negative value, one that is no integer, or several; None if
        there is no value.
    """
    if not values:
        return None
    if len(values) > 1 or _SIGNED_INTEGER.fullmatch(values[0]) is None or int(values[0]) < 0:
        return math.inf
    return int(values[0]) / 1e3
