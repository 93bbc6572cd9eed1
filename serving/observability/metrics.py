"""What Prometheus scrapes.

A request costs the event loop one append to a queue. What is in the queue is counted 64 requests at
a time, and before each scrape, so that predictions of many answers are looked at in one go. Series
are made for what is served and nothing else: a caller cannot make one.
"""

import asyncio
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from serving.core.model import ServedModel
from serving.core.outcome import Outcome
from serving.observability.families import PREFIX, Snapshot, metric_of
from serving.observability.histogram import DURATIONS_S, Histogram
from serving.observability.metric_table import FAMILIES
from serving.observability.model_series import ModelSeries
from serving.observability.readings import (
    CacheReading,
    ModelReading,
    RedisReading,
    ServerReading,
)

# Few enough that to count them takes a fraction of a millisecond, and many enough that numpy's
# calls are shared.
FOLD_EVERY = 64
# An answer as large as this is not kept until there are so many.
_LARGE_BYTES = 2**18

_Key = tuple[str, str]


class Metrics:
    """Counts requests, reads gauges when it is asked, and writes the page.

    `done` may be called from any thread; all else belongs to the event loop's.

    Args:
        build: what runs, such as its version: labels of `gateway_build_info`.

    Attributes:
        registry: the client library's, of this gateway alone.
    """

    def __init__(self, build: Mapping[str, str]) -> None:
        self.registry = CollectorRegistry()
        self._loop_lag = Histogram(DURATIONS_S)
        self._events: Counter[str] = Counter()
        self._build = dict(build)
        self._pending: deque[Outcome | float | str] = deque()
        self._counting = threading.Lock()
        self._unknown = ModelSeries(None)
        self._series: dict[_Key, ModelSeries] = {}
        self._models: dict[_Key, ServedModel] = {}
        self._read_models: dict[_Key, Callable[[], ModelReading]] = {}
        self._read_server: Callable[[], ServerReading] | None = None
        self._read_cache: Callable[[], CacheReading] | None = None
        self._read_redis: Callable[[], RedisReading] | None = None
        self._lost_log_lines: Callable[[], int] = lambda: 0
        self._now = self._read()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def done(self, outcome: Outcome) -> None:
        """See `Observer`."""
        pending = self._pending
        pending.append(outcome)
        if len(pending) >= FOLD_EVERY or outcome.bytes_out > _LARGE_BYTES:
            self._fold()

    def event(self, name: str) -> None:
        """Counts something that befell the gateway; its name is one that the code has."""
        self._pending.append(name)

    def loop_lag(self, seconds: float) -> None:
        """Counts how late the event loop was; see `loop_lag.py`."""
        self._pending.append(seconds)

    def add_model(self, model: ServedModel, read: Callable[[], ModelReading]) -> None:
        """Begins the series of a version, and reads at each scrape how it is.

        The series of the same artifact go on.
        """
        key = (model.name, model.version)
        if key not in self._models or self._models[key].digest != model.digest:
            with self._counting:
                self._count()
                self._series[key] = ModelSeries(model)
        self._models[key], self._read_models[key] = model, read

    def remove_model(self, model: ServedModel) -> None:
        """Ends the series of a version that is no longer served; what still ends is `unknown`.

        Where another artifact has taken its name and version, there is nothing left to end.
        """
        key = (model.name, model.version)
        if key not in self._models or self._models[key].digest != model.digest:
            return
        with self._counting:
            self._count()
            del self._series[key]
        del self._models[key], self._read_models[key]

    def watch_server(self, read: Callable[[], ServerReading]) -> None:
        """Reads at each scrape how the gateway is."""
        self._read_server = read

    def watch_cache(self, read: Callable[[], CacheReading]) -> None:
        """Reads at each scrape how the cache is."""
        self._read_cache = read

    def watch_redis(self, read: Callable[[], RedisReading]) -> None:
        """Reads at each scrape what came of asking Redis."""
        self._read_redis = read

    def watch_log(self, lost_lines: Callable[[], int]) -> None:
        """Reads at each scrape how many lines of the log were lost."""
        self._lost_log_lines = lost_lines

    async def page(self, accept: str = "") -> tuple[bytes, str]:
        """Writes the page, in a thread: a hundred models take it tens of milliseconds.

        Args:
            accept: the header of that name, by which Prometheus chooses between two formats.

        Returns:
            The page, and its content type.
        """
        # Gauges are read where they are changed.
        self._now = self._read()
        encode, content_type = choose_encoder(accept)
        return await asyncio.to_thread(encode, self.registry), content_type

    def describe(self) -> Iterable[Metric]:
        """Yields names, by which the client library finds those that are taken twice."""
        empty = Snapshot([], {}, None, None, None, {}, self._loop_lag, 0)
        return [metric_of(family, empty) for family in FAMILIES]

    def collect(self) -> Iterable[Metric]:
        """Returns every metric, of one moment, with the gauges that were read last."""
        with self._counting:
            self._count()
            now = self._now._replace(series=[*self._series.values(), self._unknown])
            metrics = [metric_of(family, now) for family in FAMILIES]
        return [*metrics, InfoMetricFamily(f"{PREFIX}build", "What runs.", value=self._build)]

    def _read(self) -> Snapshot:
        return Snapshot(
            series=[],
            models={key: read() for key, read in self._read_models.items()},
            server=None if self._read_server is None else self._read_server(),
            cache=None if self._read_cache is None else self._read_cache(),
            redis=None if self._read_redis is None else self._read_redis(),
            events=self._events,
            event_loop_lag=self._loop_lag,
            lost_log_lines=self._lost_log_lines(),
        )

    def _fold(self) -> None:
        """Counts what is in the queue, or leaves it to the scrape that goes on: nobody waits."""
        if self._counting.acquire(blocking=False):
            try:
                self._count()
            finally:
                self._counting.release()

    def _count(self) -> None:
        answers: dict[_Key, list[Outcome]] = defaultdict(list)
        # Not a loop over the queue: other threads append to it meanwhile.
        for _ in range(len(self._pending)):
            one = self._pending.popleft()
            if not isinstance(one, Outcome):
                self._count_other(one)
                continue
            key = (one.call.model, one.version)
            series = self._series.get(key, self._unknown) if one.known else self._unknown
            series.add(one)
            if series.predictions is not None and one.answer is not None:
                answers[key].append(one)
        for key, outcomes in answers.items():
            self._series[key].add_predictions(outcomes)

    def _count_other(self, one: float | str) -> None:
        if isinstance(one, str):
            self._events[one] += 1
        else:
            self._loop_lag.observe(one)
