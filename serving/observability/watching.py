"""Has metrics and the log follow what a gateway serves: models, replicas, breakers, caches."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.core.admission import Admission
from serving.core.cache import ResponseCache
from serving.core.catalog import Catalog, Served, State
from serving.core.engine import Engine
from serving.core.model import ServedModel
from serving.core.outcome import Observer
from serving.core.redis_cache import RedisCache
from serving.observability.metrics import Metrics
from serving.observability.readings import (
    CacheReading,
    ModelReading,
    RedisReading,
    ServerReading,
)
from serving.policies.breaker import State as BreakerState

# From one look at the breakers to the next: they stay open for longer.
INTERVAL_S = 0.5


@dataclass
class _Seen:
    """A version as it was when it was looked at last."""

    served: Served
    replicas: set[str] = field(default_factory=set)
    is_ready: bool = False
    openings: int = 0
    is_closed: bool = True


class Watch:
    """Follows a catalog, from `start` to `stop`, in the event loop that changes it.

    Series begin and end with what is served. Told as events are replicas that come and go, models
    that answer or no longer do, and breakers that open and close. Who ends replicas on purpose
    stops it first, or unloads their model.

    Args:
        catalog: What is served.
        metrics: Has the series.
        observer: Is told events.
        replicas_wanted: How many replicas a version should have.
    """

    def __init__(
        self,
        catalog: Catalog,
        metrics: Metrics,
        observer: Observer,
        replicas_wanted: Callable[[ServedModel], int],
    ) -> None:
        self._catalog, self._metrics, self._observer = catalog, metrics, observer
        self._replicas_wanted = replicas_wanted
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._unsubscribe: Callable[[], None] | None = None
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to follow."""
        self._unsubscribe = self._catalog.subscribe(self._follow)
        self._follow()
        self._look_again()

    def stop(self) -> None:
        """Follows no more; the series stay for the last scrape."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _follow(self) -> None:
        now = {(one.model.name, one.model.version): one for one in self._catalog.all()}
        for key, seen in list(self._seen.items()):
            if now.get(key) is not seen.served:
                del self._seen[key]
                if key not in now or now[key].model.digest != seen.served.model.digest:
                    self._metrics.remove_model(seen.served.model)
        for key, served in now.items():
            if key not in self._seen:
                self._seen[key] = _Seen(served)
                self._metrics.add_model(served.model, self._reader(served))
            self._compare(self._seen[key])

    def _reader(self, served: Served) -> Callable[[], ModelReading]:
        return lambda: model_reading(served, self._replicas_wanted(served.model))

    def _compare(self, seen: _Seen) -> None:
        """Tells what has changed of one version's replicas."""
        model = seen.served.model
        replicas = {channel.name for channel in seen.served.channels.connected}
        for event, names in (
            ("replica_ready", replicas - seen.replicas),
            ("replica_lost", seen.replicas - replicas),
        ):
            for name in sorted(names):
                self._observer.event(event, model=model.name, version=model.version, replica=name)
        seen.replicas = replicas
        state = seen.served.state()
        is_ready = state.state is State.READY
        if seen.is_ready and not is_ready and not seen.served.leaving:
            facts = {"model": model.name, "version": model.version, "why": state.reason}
            self._observer.event("model_unavailable", **facts)
        seen.is_ready = is_ready

    def _look_again(self) -> None:
        for seen in self._seen.values():
            self._look_at_breaker(seen)
        self._next = asyncio.get_running_loop().call_later(INTERVAL_S, self._look_again)

    def _look_at_breaker(self, seen: _Seen) -> None:
        breaker, model = seen.served.batcher.gate.breaker, seen.served.model
        is_closed = breaker.state is BreakerState.CLOSED
        facts = {"model": model.name, "version": model.version}
        if breaker.openings > seen.openings:
            self._observer.event("breaker_opened", **facts, why=breaker.reason)
        if is_closed and (not seen.is_closed or breaker.openings > seen.openings):
            self._observer.event("breaker_closed", **facts)
        seen.openings, seen.is_closed = breaker.openings, is_closed


def model_reading(served: Served, replicas_wanted: int) -> ModelReading:
    """Returns how one version is now."""
    gate, queue = served.batcher.gate, served.batcher.queue
    return ModelReading(
        ready=served.state().state is State.READY,
        replicas=len(served.channels.connected),
        replicas_wanted=replicas_wanted,
        queued_requests=queue.count,
        queued_bytes=queue.bytes,
        breaker=gate.breaker.state.value,
        breaker_openings=gate.breaker.openings,
        concurrency_limit=gate.concurrency.limit if gate.adapts else None,
    )


def server_reading(engine: Engine, admission: Admission) -> ServerReading:
    """Returns how the gateway is now."""
    return ServerReading(admission.requests, admission.bytes, engine.draining)


def cache_reading(cache: ResponseCache) -> CacheReading:
    """Returns what the cache has done, and how it is now."""
    return CacheReading(
        hits=cache.hits,
        shared=cache.shared,
        misses=cache.misses,
        evictions=cache.evictions,
        entries=len(cache),
        bytes=cache.bytes,
    )


def redis_reading(redis: RedisCache) -> RedisReading:
    """Returns what came of asking Redis."""
    return RedisReading(redis.hits, redis.misses, redis.failures, redis.skipped, redis.foreign)
