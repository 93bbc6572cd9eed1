"""Whether one more request to a model makes sense: the limits that know how busy the model is."""

import logging
from typing import NamedTuple

from serving.core.channel import Channels, Computed, ReplicaLostError
from serving.core.errors import Kind, ServingError
from serving.core.model import ServedModel
from serving.core.model_policy import ModelPolicy
from serving.core.waiter import Running
from serving.policies.breaker import CircuitBreaker
from serving.policies.concurrency_limit import ConcurrencyLimit
from serving.policies.latency_bound import LatencyBound
from serving.policies.service_time import ServiceTime

_log = logging.getLogger(__name__)

# The least that callers are told to wait: sooner, nothing has changed.
_MIN_RETRY_S = 0.02

_UNMEETABLE = "deadline_unmeetable"


class Work(NamedTuple):
    """What a model has to do.

    Attributes:
        requests: that are not answered yet.
        running: examples that are being computed.
        ahead: examples that wait and are computed before another one.
        replicas: that compute.
        running_s: until the first of them is free, as far as can be told.
    """

    requests: int
    running: int
    ahead: int
    replicas: int
    running_s: float


class Gate:
    """Lets requests to one model pass, or says why not. Every refusal comes at once.

    Args:
        model: which.
        policy: its limits.

    Attributes:
        breaker: leaves the model alone while it fails.
        concurrency: how many requests may be in work.
        service_time: how long batches take.
        latency: how much may be in work while some is refused.
        adapts: that number limits requests.
    """

    def __init__(self, model: ServedModel, policy: ModelPolicy) -> None:
        self.breaker = CircuitBreaker(policy.breaker)
        # The stretch of a lone request is 1, by definition.
        self.concurrency = ConcurrencyLimit(policy.concurrency, least=1.0)
        self.service_time = ServiceTime(policy.service_time)
        self.latency = LatencyBound(policy.latency, self.service_time)
        self._model = model
        self.adapts = policy.concurrency.enabled

    def check(self, now: float, work: Work, *, remaining_s: float, size: int) -> None:
        """Lets one request pass; its outcome is then owed to the breaker.

        Args:
            now: the time.
            work: that there is without it.
            remaining_s: until nobody waits for it any more.
            size: its examples.

        Raises:
            ServingError: it does not pass.
        """
        if remaining_s <= 0:
            raise late()
        reason = self._too_much(now, work, remaining_s, size)
        if reason:
            self.latency.refused(now, remaining_s)
            if reason == _UNMEETABLE:
                raise self._unmeetable(work, size, remaining_s)
            raise self.overloaded(reason, work)
        retry_s = self.breaker.allow(now)
        if retry_s is not None:
            raise ServingError(
                Kind.UNAVAILABLE,
                f"model {self._model.name!r} fails: {self.breaker.reason}; try again later",
                reason="breaker_open",
                retry_after_s=max(retry_s, _MIN_RETRY_S),
            )

    def learn(
        self, running: Running, result: Computed | ReplicaLostError | ServingError, now: float
    ) -> None:
        """Tells the breaker, and the estimate of time, how a batch has ended.

        Args:
            running: the batch.
            result: its outputs, or why it has none.
            now: the time.
        """
        epoch, requests = running.epoch, running.requests
        duration_s = now - running.sent_at
        if isinstance(result, Computed):
            self.breaker.record(now, True, result.infer_s, epoch, requests)
            self.service_time.record(running.size, duration_s)
        elif isinstance(result, ReplicaLostError) or result.kind is Kind.INTERNAL:
            # Callers are told a number; what it was stands in the replica's notes.
            for note in getattr(result, "__notes__", ()):
                _log.error("%s at replica %s: %s", result, running.channel.name, note)
            self.breaker.record(now, False, duration_s, epoch, requests)
        else:
            self.breaker.cancelled(epoch, requests)
            # If only batches counted whose end is awaited, a model that has become too slow for
            # everybody would be taken to be as fast as ever. One that never began was shorter.
            if result.kind is Kind.CANCELLED and duration_s > self.service_time.estimate(
                running.size
            ):
                self.service_time.record(running.size, duration_s)

    def _too_much(self, now: float, work: Work, remaining_s: float, size: int) -> str:
        """Why there is too much work for one more request; "": there is not."""
        if self.adapts and work.requests >= self.concurrency.limit:
            return "concurrency_limit"
        max_batch_size = self._model.max_batch_size
        if work.running + work.ahead >= self.latency.examples(now, max_batch_size, work.replicas):
            return "latency_bound"
        return _UNMEETABLE if self._wait_s(work, size) > remaining_s else ""

    def _wait_s(self, work: Work, size: int) -> float:
        return self.service_time.wait_estimate(
            work.ahead,
            size,
            self._model.max_batch_size,
            max(work.replicas, 1),
            work.running_s,
        )

    def overloaded(self, reason: str, work: Work) -> ServingError:
        """A refusal that says when those who wait now will have been answered."""
        message = f"too many requests wait for model {self._model.name!r}; try again later"
        return self._refusal(message, reason, work)

    def _unmeetable(self, work: Work, size: int, remaining_s: float) -> ServingError:
        """A refusal of a request that has less time than its answer takes."""
        message = (
            f"model {self._model.name!r} answers in {1e3 * self._wait_s(work, size):.3g} ms or "
            f"later now, and the request has {1e3 * remaining_s:.3g} ms left; give it more time"
        )
        return self._refusal(message, _UNMEETABLE, work)

    def _refusal(self, message: str, reason: str, work: Work) -> ServingError:
        return ServingError(
            Kind.OVERLOADED,
            message,
            reason=reason,
            retry_after_s=max(self._wait_s(work, 1), _MIN_RETRY_S),
        )


def late() -> ServingError:
    """A deadline that has passed."""
    return ServingError(Kind.DEADLINE, "the request was not answered in time")


def no_replica(model: ServedModel, channels: Channels) -> ServingError:
    """Nobody computes."""
    return ServingError(
        Kind.UNAVAILABLE,
        f"model {model.name!r} has no replica that can answer: {channels.why_empty()}",
        reason="no_replica",
        retry_after_s=1.0,
    )
