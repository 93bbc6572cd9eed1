"""What is served is what the page shows, and what befalls it is told once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.core.admission import Admission
from serving.core.batcher import Batcher
from serving.core.cache import CacheConfig, ResponseCache
from serving.core.catalog import Catalog, Served
from serving.core.engine import Engine
from serving.core.errors import Kind, ServingError
from serving.core.model import ServedModel
from serving.core.model_policy import ModelPolicy
from serving.core.request import Call, Inputs, Protocol
from serving.observability import watching
from serving.observability.log_config import LogConfig
from serving.observability.metrics import Metrics
from serving.observability.request_log import RequestLog
from serving.observability.telemetry import Telemetry
from serving.observability.watching import Watch, cache_reading, server_reading
from serving.policies.breaker import BreakerConfig
from serving.policies.concurrency_limit import ConcurrencyConfig
from serving.testing.held_channels import SUMS, HeldChannel, HeldChannels

POLICY = ModelPolicy(
    breaker=BreakerConfig(max_consecutive_failures=2, probes=1, open_s=0.01, jitter=0.0),
    concurrency=ConcurrencyConfig(enabled=False),
)


class Nowhere:
    """Writes no lines."""

    def put(self, entry: object) -> None: ...


class Recorder(Telemetry):
    """Counts as always, and keeps the events."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(metrics, RequestLog(Nowhere(), LogConfig()))
        self.events: list[tuple[str, ...]] = []

    def event(self, name: str, **facts: object) -> None:
        self.events.append((name, *map(str, facts.values())))


class House:
    """A gateway without a network: an engine, metrics, and what follows the catalog."""

    def __init__(self) -> None:
        self.metrics = Metrics({})
        self.recorder = Recorder(self.metrics)
        self.catalog, self.admission = Catalog(), Admission(8, 1000)
        self.cache = ResponseCache(CacheConfig(enabled=True))
        self.engine = Engine(self.catalog, self.admission, self.recorder, self.cache)
        self.metrics.watch_server(lambda: server_reading(self.engine, self.admission))
        self.metrics.watch_cache(lambda: cache_reading(self.cache))
        self.watch = Watch(self.catalog, self.metrics, self.recorder, lambda model: 2)
        self.watch.start()

    def serve(self, model: ServedModel, channels: HeldChannels) -> Served:
        served = Served(model, channels, Batcher(model, channels, POLICY))
        self.catalog.add(served, default=True)
        return served

    def ask(self, value: float) -> asyncio.Task[object]:
        call = Call(Protocol.REST, "sums", "", "id", "client", 8, time.monotonic() + 600)
        inputs = Inputs({"x": np.full((1, 2), value, np.float32)}, ("sum",))
        return asyncio.create_task(self.engine.infer(call, lambda model: inputs))

    async def values(self) -> dict[str, float]:
        """Of the page, by name and the labels' values: those of the model first."""
        page, _ = await self.metrics.page()
        found = {}
        for family in text_string_to_metric_families(page.decode()):
            for sample in family.samples:
                name, labels = sample.name.removeprefix("gateway_"), sample.labels
                of = [labels.pop(label) for label in ("model", "version") if label in labels]
                found[" ".join([name, *of, *labels.values()])] = sample.value
        return found


def in_loop(test: Callable[[House], Awaitable[None]]) -> None:
    async def run() -> None:
        house = House()
        await test(house)
        house.watch.stop()

    asyncio.run(run())


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_request_that_waits_and_is_answered_is_on_the_page() -> None:
    async def test(house: House) -> None:
        channel = HeldChannel("a")
        house.serve(SUMS, HeldChannels(channel))
        tasks = [house.ask(value) for value in (1, 2, 2)]
        await settled()
        now = await house.values()
        of = "sums 1.2.3"
        assert now[f"model_ready {of}"] == now[f"replicas {of}"] == 1
        assert now[f"replicas_wanted {of}"] == 2
        assert now[f"queue_depth {of}"] == 1
        assert now[f"queue_bytes {of}"] > 0
        assert now[f"breaker_state {of} closed"] == 1
        assert now["inflight_requests"] == 3
        assert now["inflight_bytes"] == 24
        assert now["draining"] == 0
        assert f"concurrency_limit {of}" not in now
        for _ in range(2):
            channel.finish()
        await asyncio.gather(*tasks)
        house.engine.drain()
        now = await house.values()
        assert now[f"requests_total {of} rest ok"] == 3
        assert now[f"batch_size_count {of}"] == 2
        assert now[f"cached_answers_total {of}"] == now["cache_shared_total"] == 1
        assert (now["cache_misses_total"], now["cache_entries"]) == (2, 2)
        assert (now["inflight_requests"], now["draining"]) == (0, 1)

    in_loop(test)


def test_series_follow_the_versions_that_are_served() -> None:
    async def test(house: House) -> None:
        channels = HeldChannels(HeldChannel("a"))
        old = house.serve(replace(SUMS, version="1.0.0"), channels)
        new = house.serve(replace(SUMS, version="2.0.0"), channels)
        now = await house.values()
        assert {"replicas sums 1.0.0", "replicas sums 2.0.0"} <= now.keys()
        house.catalog.remove(old)
        now = await house.values()
        assert not any("1.0.0" in name for name in now)
        assert "replicas sums 2.0.0" in now
        house.catalog.remove(new)
        assert not any("2.0.0" in name for name in await house.values())

    in_loop(test)


def test_replicas_that_come_and_go_are_told_once() -> None:
    async def test(house: House) -> None:
        a, b = HeldChannel("a"), HeldChannel("b")
        channels = HeldChannels()
        served = house.serve(SUMS, channels)
        channels.change(a)
        channels.change(a, b)
        channels.change(b)
        channels.change()
        of = ("sums", "1.2.3")
        assert house.recorder.events == [
            ("replica_ready", *of, "a"),
            ("replica_ready", *of, "b"),
            ("replica_lost", *of, "a"),
            ("replica_lost", *of, "b"),
            ("model_unavailable", *of, "the replica died"),
        ]
        channels.change(a)
        house.recorder.events.clear()
        served.leaving = True
        house.catalog.remove(served)
        channels.change()
        house.watch.stop()
        house.serve(SUMS, HeldChannels(b))
        assert house.recorder.events == []

    in_loop(test)


def test_a_breaker_that_opens_and_closes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "INTERVAL_S", 0.01)

    async def test(house: House) -> None:
        channel = HeldChannel("a")
        house.serve(SUMS, HeldChannels(channel))
        house.recorder.events.clear()
        for value in range(2):
            task = house.ask(value)
            await settled()
            channel.fail(ServingError(Kind.INTERNAL, "incident"))
            with pytest.raises(ServingError):
                await task
        now = await house.values()
        assert now["breaker_openings_total sums 1.2.3"] == 1
        assert now["breaker_state sums 1.2.3 open"] == 1
        await asyncio.sleep(0.05)  # in one loop timers keep their order
        ((event, *_, why),) = house.recorder.events
        assert event == "breaker_opened"
        assert why
        task = house.ask(5)
        await settled()
        channel.finish()
        await task
        await asyncio.sleep(0.05)  # in one loop timers keep their order
        assert house.recorder.events[1:] == [("breaker_closed", "sums", "1.2.3")]

    in_loop(test)
