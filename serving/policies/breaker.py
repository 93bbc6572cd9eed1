"""Whether to ask a model that has failed of late: a circuit breaker.

Closed, everything passes and outcomes are counted. Open, nothing passes, so that callers hear at
once what they would hear late, and the model is left alone. Half-open, a few requests pass as
probes, and their outcomes decide. Reference: M. Nygard, Release It! (2nd ed. 2018), chapter 5.
"""

import random
from collections.abc import Callable
from enum import Enum

from pydantic import Field

from base.config import Section
from serving.policies.rolling_counts import RollingCounts


class BreakerConfig(Section):
    """When a model counts as failing, and when it is tried again."""

    window_s: float = Field(
        default=10.0, ge=0.1, le=3600, description="Outcomes that are older do not count, seconds"
    )
    min_computations: int = Field(
        default=20,
        ge=1,
        le=1_000_000,
        description="Fewer than these within the window say nothing about rates",
    )
    max_error_rate: float = Field(
        default=0.5, gt=0, le=1, description="Share of failures within the window that opens it"
    )
    max_consecutive_failures: int = Field(
        default=5, ge=1, le=1_000_000, description="Failures in a row that open it, at any volume"
    )
    slow_s: float | None = Field(
        default=None,
        gt=0,
        le=86_400,
        description="A computation that takes longer is slow, seconds; by default none is, since "
        "how long a model may take only its owner knows",
    )
    max_slow_rate: float = Field(
        default=0.5, gt=0, le=1, description="Share of slow ones within the window that opens it"
    )
    probes: int = Field(
        default=3, ge=1, le=1000, description="Requests that must succeed before it closes"
    )
    open_s: float = Field(
        default=1.0, gt=0, le=3600, description="How long it is open the first time, seconds"
    )
    open_growth: float = Field(
        default=2.0, ge=1, le=100, description="Factor each time that probes fail"
    )
    max_open_s: float = Field(
        default=60.0, gt=0, le=86_400, description="How long it is open at most, seconds"
    )
    jitter: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of that time by which it is shorter at random, so that several "
        "gateways do not probe at once",
    )


class State(Enum):
    """What a breaker lets pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_ALL, _FAILED, _SLOW = range(3)


class CircuitBreaker:
    """One breaker, for one model.

    Only faults of the server or the model are failures. A caller's error, a full queue and a
    request that nobody waits for any more say nothing about the model: for those `cancelled` is
    called.

    Attributes:
        state: what passes. It goes from OPEN to HALF_OPEN when a request comes, not by itself.
        epoch: counts changes of state. Whoever has a computation begun keeps it and hands it back
            with the outcome: one that began in another epoch says nothing about this one.
        openings: how often it has opened.
        reason: why it opened last, for a log; "" if it never did.
    """

    def __init__(self, config: BreakerConfig, uniform: Callable[[], float] = random.random) -> None:
        """A closed breaker; `uniform` draws from [0, 1), for the jitter."""
        self.state = State.CLOSED
        self.epoch = 0
        self.openings = 0
        self.reason = ""
        self._config = config
        self._uniform = uniform
        self._counts = RollingCounts(config.window_s, 3)
        self._in_a_row = 0
        self._open_s = 0.0  # how long it was open last, without jitter; 0 once it is healthy
        self._closed_at = 0.0
        self._until = 0.0  # OPEN: probes pass from then on; HALF_OPEN: these probes are given up
        self._probes_left = 0
        self._probes_ok = 0

    def allow(self, now: float) -> float | None:
        """Returns None if a request may pass, otherwise after how many seconds to try again.

        Whatever passes ends in `record` or `cancelled`.
        """
        if self.state is State.CLOSED:
            return None
        # Half-open this long, whoever holds the probes has lost them: let others try.
        if now >= self._until:
            self._probe(now)
        if self._probes_left > 0:
            self._probes_left -= 1
            return None
        remaining = self._until - now
        return remaining if self.state is State.OPEN else min(remaining, self._config.open_s)

    def record(
        self, now: float, ok: bool, duration_s: float, epoch: int, requests: int = 1
    ) -> None:
        """Counts the outcome of one computation.

        Args:
            now: when it ended.
            ok: False for a fault of the server or the model.
            duration_s: of the computation, without the time in a queue: a long queue is no fault
                of the model, and opening the breaker would turn overload into an outage.
            epoch: this breaker's when the computation began.
            requests: how many it answered, of those that were allowed.
        """
        if epoch != self.epoch:
            return
        slow_s = self._config.slow_s
        slow = slow_s is not None and duration_s > slow_s
        if self.state is State.HALF_OPEN:
            self._record_probe(now, ok, slow, requests)
            return
        self._counts.add(now, _ALL)
        if slow:
            self._counts.add(now, _SLOW)
        if ok:
            self._in_a_row = 0
        else:
            self._counts.add(now, _FAILED)
            self._in_a_row += 1
        if slow or not ok:
            reason = self._why_failing()
            if reason:
                self._open(now, reason)

    def cancelled(self, epoch: int, requests: int = 1) -> None:
        """Gives back what was allowed, since nothing will be known of its outcome."""
        if self.state is State.HALF_OPEN and epoch == self.epoch:
            free = self._config.probes - self._probes_ok
            self._probes_left = min(self._probes_left + requests, free)

    def _record_probe(self, now: float, ok: bool, slow: bool, requests: int) -> None:
        if not ok or slow:
            self._open(now, "a probe failed" if not ok else "a probe was slow")
            return
        self._probes_ok += requests
        if self._probes_ok >= self._config.probes:
            self._change(State.CLOSED)
            self._closed_at = now
            self._in_a_row = 0
            self._counts.clear()

    def _why_failing(self) -> str:
        config, (total, failed, slow) = self._config, self._counts.totals
        if self._in_a_row >= config.max_consecutive_failures:
            return f"{self._in_a_row} failures in a row"
        if total < config.min_computations:
            return ""
        if failed >= config.max_error_rate * total:
            return f"{failed} of {total} failed within {config.window_s:g} s"
        if slow >= config.max_slow_rate * total:
            return f"{slow} of {total} took over {config.slow_s:g} s within {config.window_s:g} s"
        return ""

    def _open(self, now: float, reason: str) -> None:
        config = self._config
        # Healthy for a whole window: what was before is forgotten.
        healthy = self.state is State.CLOSED and now - self._closed_at >= config.window_s
        grown = 0.0 if healthy else self._open_s * config.open_growth
        self._open_s = min(max(grown, config.open_s), config.max_open_s)
        self._until = now + self._open_s * (1 - config.jitter * self._uniform())
        self._probes_left = 0
        self.openings += 1
        self.reason = reason
        self._change(State.OPEN)

    def _probe(self, now: float) -> None:
        if self.state is State.OPEN:
            self._probes_ok = 0
            self._change(State.HALF_OPEN)
        self._probes_left = self._config.probes - self._probes_ok
        self._until = now + self._open_s

    def _change(self, state: State) -> None:
        self.state = state
        self.epoch += 1
