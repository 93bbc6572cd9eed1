"""What metrics read at the moment of a scrape, of those who know it."""

from typing import NamedTuple

# In the order in which one passes them.
BREAKER_STATES = ("closed", "open", "half_open")


class ModelReading(NamedTuple):
    """One version of a model, as it is now.

    Attributes:
        ready: requests for it are answered.
        replicas: that are ready.
        replicas_wanted: that there should be.
        queued_requests: that wait for a batch.
        queued_bytes: that those hold.
        breaker: one of BREAKER_STATES.
        breaker_openings: how often it has opened.
        concurrency_limit: requests that are let in at once; None: nothing limits them.
    """

    ready: bool
    replicas: int
    replicas_wanted: int
    queued_requests: int
    queued_bytes: int
    breaker: str
    breaker_openings: int
    concurrency_limit: float | None


class ServerReading(NamedTuple):
    """The gateway as it is now.

    Attributes:
        inflight_requests: that are not answered yet.
        inflight_bytes: that those hold.
        draining: it has been told to end.
    """

    inflight_requests: int
    inflight_bytes: int
    draining: bool


class CacheReading(NamedTuple):
    """The cache since it began, and as it is now.

    Attributes:
        hits: answers that it had.
        shared: answers that were being computed for another.
        misses: answers that it did not have.
        evictions: answers that it let go to make room.
        entries: answers that it has.
        bytes: that those hold.
    """

    hits: int
    shared: int
    misses: int
    evictions: int
    entries: int
    bytes: int


class RedisReading(NamedTuple):
    """The Redis that gateways share answers through, as this one has found it.

    Attributes:
        hits: answers that it had.
        misses: answers that it did not have.
        failures: commands that failed or took too long.
        skipped: commands that were not sent, as too many had failed or were under way.
        foreign: values that were no answers to what was asked.
    """

    hits: int
    misses: int
    failures: int
    skipped: int
    foreign: int
