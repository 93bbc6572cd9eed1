"""A metric: its name, what it means, and how the client library is told its values."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from serving.observability.histogram import Histogram
from serving.observability.model_series import ModelSeries
from serving.observability.readings import (
    CacheReading,
    ModelReading,
    RedisReading,
    ServerReading,
)

PREFIX = "gateway_"


class Snapshot(NamedTuple):
    """All that a page tells, of one moment.

    Attributes:
        series: what was counted, of each model and of requests for none.
        models: how each version is now, by name and version.
        server: how the gateway is now; None: nobody has said how to tell.
        cache: likewise; None: there is none.
        redis: likewise.
        events: what befell the gateway, and how often.
        event_loop_lag: how late callbacks of the event loop were, in seconds.
        lost_log_lines: lines that were not written, since nobody read them in time.
    """

    series: Sequence[ModelSeries]
    models: Mapping[tuple[str, str], ModelReading]
    server: ServerReading | None
    cache: CacheReading | None
    redis: RedisReading | None
    events: Mapping[str, int]
    event_loop_lag: Histogram
    lost_log_lines: int


# Values of labels, and what has them: a number or, of a histogram, all of it.
Values = Iterable[tuple[Sequence[str], float | Histogram]]


class Family(NamedTuple):
    """One metric.

    Attributes:
        kind: what Prometheus takes it for.
        name: without the prefix.
        labels: their names.
        meaning: of its values, in words.
        read: yields its values.
    """

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    labels: tuple[str, ...]
    meaning: str
    read: Callable[[Snapshot], Values]

    @property
    def full_name(self) -> str:
        """As it is on the page."""
        return PREFIX + self.name


def metric_of(family: Family, now: Snapshot) -> Metric:
    """Returns a metric with its values, as the client library writes it."""
    labels = list(family.labels)
    if family.kind == "histogram":
        return _histogram(family, labels, now)
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.full_name, family.meaning, labels=labels)
    for values, value in family.read(now):
        assert not isinstance(value, Histogram)  # a name is of one kind
        metric.add_metric(list(values), float(value))
    return metric


def _histogram(family: Family, labels: list[str], now: Snapshot) -> Metric:
    metric = HistogramMetricFamily(family.full_name, family.meaning, labels=labels)
    for values, value in family.read(now):
        assert isinstance(value, Histogram)  # likewise
        metric.add_metric(list(values), value.buckets(), value.total)
    return metric


def of_series(read: Callable[[ModelSeries], float | Histogram]) -> Callable[[Snapshot], Values]:
    """Reads what was counted once a model."""
    return lambda now: ((one.labels, read(one)) for one in now.series)


def of_parts(
    read: Callable[[ModelSeries], Iterable[tuple[Sequence[str], float | Histogram]]],
) -> Callable[[Snapshot], Values]:
    """Reads what was counted for each value of further labels of a model."""

    def values(now: Snapshot) -> Iterator[tuple[Sequence[str], float | Histogram]]:
        for one in now.series:
            for labels, value in read(one):
                yield (*one.labels, *labels), value

    return values


def of_models(read: Callable[[ModelReading], float | None]) -> Callable[[Snapshot], Values]:
    """Reads how each model is now; one may have no such value."""

    def values(now: Snapshot) -> Iterator[tuple[Sequence[str], float]]:
        for labels, reading in now.models.items():
            if (value := read(reading)) is not None:
                yield labels, value

    return values


def of_server(read: Callable[[ServerReading], float]) -> Callable[[Snapshot], Values]:
    """Reads how the gateway is now."""
    return lambda now: [] if now.server is None else [((), read(now.server))]


def of_cache(read: Callable[[CacheReading], float]) -> Callable[[Snapshot], Values]:
    """Reads how the cache is now."""
    return lambda now: [] if now.cache is None else [((), read(now.cache))]


def of_redis(read: Callable[[RedisReading], float]) -> Callable[[Snapshot], Values]:
    """Reads what came of asking Redis."""
    return lambda now: [] if now.redis is None else [((), read(now.redis))]
