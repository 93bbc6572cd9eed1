"""The life of a gateway: take the ports, start the replicas, listen, answer, drain, stop."""

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stdout, suppress
from functools import partial
from signal import SIGINT
from typing import Any

from base.interrupts import asked_to_end
from registry.access import Access
from serving.configuration.model_config import ModelConfig
from serving.configuration.schema import ServeConfig
from serving.core.admission import Admission
from serving.core.cache import ResponseCache
from serving.core.catalog import Catalog
from serving.core.engine import Engine
from serving.core.model import ServedModel
from serving.core.redis_cache import RedisCache
from serving.life.fleet import Fleet, ModelControl
from serving.life.front import Addresses, Front
from serving.life.references import References
from serving.observability.loop_lag import LoopLag
from serving.observability.metrics import Metrics
from serving.observability.program_log import program_log
from serving.observability.request_log import RequestLog
from serving.observability.telemetry import Telemetry
from serving.observability.watching import Watch, cache_reading, redis_reading, server_reading
from serving.protocols.server_facts import VERSION


class RayLostError(Exception):
    """Ray has gone while the gateway served; what could be answered was."""


class _End:
    """Whether and why the gateway is to end.

    Attributes:
        asked: It is.
        lost: Ray is gone, and why; "": it was asked to by a signal.
        hurried: Somebody waits at a terminal.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.lost = ""
        self.hurried = False

    def by_signal(self, number: int) -> None:
        """Somebody wants it to end."""
        # A person at a terminal is no load balancer, which has to see that this one is not ready.
        self.hurried = self.hurried or number == SIGINT or self.asked.is_set()
        self.asked.set()

    def by_loss(self, reason: str) -> None:
        """It cannot go on."""
        self.lost = reason
        self.asked.set()


async def serve_until_signal(config: ServeConfig, access: Access) -> None:
    """Serves until SIGINT, SIGTERM or SIGHUP, then drains; further ones do not cut it short.

    Raises:
        StartError: A port is taken, or a model cannot be served.
        RayLostError: Ray has gone.
    """
    end = _End()
    for number in asked_to_end():
        asyncio.get_running_loop().add_signal_handler(number, end.by_signal, number)
    ready = sys.stdout
    # What Ray has to say must not come before, or into, the line that others wait for.
    with redirect_stdout(sys.stderr), program_log(config.log) as writer:
        metrics = Metrics({"version": VERSION})
        metrics.watch_log(lambda: writer.lost)
        telemetry = Telemetry(metrics, RequestLog(writer, config.log))
        lag = LoopLag(asyncio.get_running_loop(), metrics.loop_lag)
        lag.start()
        try:
            with suppress(_StoppedError):
                async with _gateway(config, access, metrics, telemetry, end) as line:
                    print(line, file=ready, flush=True)
                    await end.asked.wait()
                    telemetry.event("draining", reason=end.lost or "signal")
                    draining = time.monotonic()
                telemetry.event("stopped", took_s=round(time.monotonic() - draining, 3))
        finally:
            lag.stop()
    if end.lost:
        raise RayLostError(end.lost)


class _StoppedError(Exception):
    """It was told to end while it started."""


@asynccontextmanager
async def _gateway(
    config: ServeConfig, access: Access, metrics: Metrics, telemetry: Telemetry, end: _End
) -> AsyncIterator[str]:
    """Serves while the context is open; yields the line that says what, and where."""
    limits, catalog = config.limits, Catalog()
    admission = Admission(
        limits.max_inflight_requests, limits.max_inflight_bytes, config.rate_limit
    )
    async with AsyncExitStack() as stack:
        cache = _cache(config, metrics, telemetry, stack)
        engine = Engine(catalog, admission, telemetry, cache, starting=True)
        metrics.watch_server(lambda: server_reading(engine, admission))
        fleet = Fleet(catalog, References(access), telemetry, drain_s=config.drain.timeout_s)
        control = ModelControl(fleet, lambda name: _options(config, name))
        front = Front(
            config, engine, admission, metrics, control if config.allow_model_control else None
        )
        stack.push_async_callback(front.close)
        watch = Watch(catalog, metrics, telemetry, lambda model: _replicas(catalog, model))
        watch.start()
        addresses = await front.hold()
        telemetry.event("holding", **addresses._asdict())
        await _unless(end, _start(config, fleet, telemetry, end, stack))
        await front.open()
        engine.started()
        telemetry.event("listening", **addresses._asdict())
        # Before replicas end: that is no loss.
        stack.callback(watch.stop)
        stack.push_async_callback(_drain, front, config, end)
        yield _line(engine, addresses)


async def _start(
    config: ServeConfig, fleet: Fleet, telemetry: Telemetry, end: _End, stack: AsyncExitStack
) -> None:
    """Starts Ray and every model; what was started ends with `stack`."""
    started = time.monotonic()
    telemetry.event("starting_ray", address=config.ray.ray_address)
    # Importing Ray takes seconds; a port that is taken was refused before.
    from serving.control.cluster import ray_cluster
    from serving.control.placement import Placer
    from serving.control.supervision import watch

    cluster = await stack.enter_async_context(ray_cluster(config.ray.ray_address))
    stack.callback(asyncio.create_task(watch(cluster, end.by_loss)).cancel)
    fleet.open(Placer(cluster, config.ray))
    stack.push_async_callback(fleet.close)
    for model in config.models:
        telemetry.event("loading_model", reference=model.reference)
        await fleet.load(config.of_model(model))
    if config.follow_aliases_s is not None:
        stack.callback(asyncio.create_task(fleet.follow(config.follow_aliases_s)).cancel)
    # What was made so far stays; the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    telemetry.event("started", took_s=round(time.monotonic() - started, 3))


async def _unless(end: _End, starting: Coroutine[Any, Any, None]) -> None:
    """Waits for the start to be over, but no longer than until the gateway is to end.

    Raises:
        _StoppedError: It is to end.
        StartError: It did not start.
    """
    start, asked = asyncio.create_task(starting), asyncio.create_task(end.asked.wait())
    try:
        await asyncio.wait([start, asked], return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        start.cancel()
        await asyncio.wait([start])
    if end.asked.is_set():
        raise _StoppedError
    await start


async def _drain(front: Front, config: ServeConfig, end: _End) -> None:
    window_s = 0.0 if end.hurried or end.lost else config.drain.window_s
    await front.drain(window_s=window_s, timeout_s=config.drain.timeout_s)


def _cache(
    config: ServeConfig, metrics: Metrics, telemetry: Telemetry, stack: AsyncExitStack
) -> ResponseCache | None:
    if not config.cache.enabled:
        return None
    second = None
    if config.redis.url is not None:
        second = RedisCache(
            config.redis,
            ttl_s=config.cache.ttl_s,
            on_failure=lambda why: telemetry.event("cache_lost", why=why),
        )
        stack.push_async_callback(second.close)
        metrics.watch_redis(partial(redis_reading, second))
    cache = ResponseCache(config.cache, second)
    metrics.watch_cache(lambda: cache_reading(cache))
    return cache


def _replicas(catalog: Catalog, model: ServedModel) -> int:
    return catalog.find(model.name, model.version).replicas


def _options(config: ServeConfig, reference: str) -> ModelConfig:
    """What holds for a model that a client loads and nobody has configured."""
    return config.of_model(ModelConfig(reference=reference))


def _line(engine: Engine, addresses: Addresses) -> str:
    models = ", ".join(f"{state.model.name} {state.model.version}" for state in engine.models())
    return f"serving {models or 'nothing yet'} at {addresses}"
