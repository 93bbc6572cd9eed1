"""The page, as Prometheus reads it, says what happened; the client library's metrics are judge."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client import Histogram as LibraryHistogram
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from serving.core.errors import NONFINITE_OUTPUT, Kind, ServingError
from serving.core.request import Protocol, Timings
from serving.observability.histogram import CONFIDENCES, DURATIONS_S
from serving.observability.metrics import FOLD_EVERY, Metrics
from serving.observability.model_series import MAX_REASONS
from serving.observability.predictions import MAX_CLASSES, MAX_VALUES, predictions_of
from serving.observability.readings import (
    CacheReading,
    ModelReading,
    RedisReading,
    ServerReading,
)
from serving.observability.testing.outcomes import call, logits, model, outcome

DIGITS = {"model": "digits", "version": "1.0.0"}
READING = ModelReading(
    ready=True,
    replicas=1,
    replicas_wanted=2,
    queued_requests=3,
    queued_bytes=4,
    breaker="half_open",
    breaker_openings=10,
    concurrency_limit=5.5,
)


@pytest.fixture
def metrics() -> Metrics:
    """With one model, digits 1.0.0."""
    made = Metrics({"version": "1.2.3"})
    made.add_model(model(), lambda: READING)
    return made


def samples(metrics: Metrics) -> Iterator[Sample]:
    page, content_type = asyncio.run(metrics.page())
    assert content_type.startswith("text/plain; version=0.0.4")
    for family in text_string_to_metric_families(page.decode()):
        yield from family.samples


def values(metrics: Metrics, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Of a metric, by labels other than those of the model digits 1.0.0."""
    return {
        tuple(sorted(sample.labels.items() - DIGITS.items())): sample.value
        for sample in samples(metrics)
        if sample.name == name and DIGITS.items() <= sample.labels.items()
    }


def test_requests_are_counted_by_protocol_and_status(metrics: Metrics) -> None:
    for protocol, kind, times in [
        (Protocol.GRPC, None, 3),
        (Protocol.REST, None, 2),
        (Protocol.REST, Kind.INVALID, 4),
        (Protocol.PREDICT, Kind.DEADLINE, 1),
    ]:
        error = kind and ServingError(kind, "words")
        for _ in range(times):
            metrics.done(outcome(model(), call=call(protocol=protocol), error=error))
    assert values(metrics, "gateway_requests_total") == {
        (("protocol", "grpc"), ("status", "ok")): 3,
        (("protocol", "rest"), ("status", "ok")): 2,
        (("protocol", "rest"), ("status", "invalid")): 4,
        (("protocol", "predict"), ("status", "deadline")): 1,
    }
    durations = values(metrics, "gateway_request_duration_seconds_count")
    assert durations == {(("protocol", "grpc"),): 3, (("protocol", "rest"),): 6} | {
        (("protocol", "predict"),): 1
    }


def test_histograms_are_as_the_client_library_makes_them(metrics: Metrics) -> None:
    # On the bounds, between them and beyond; the bounds are what is easily wrong.
    drawn = [*DURATIONS_S, *np.random.default_rng(7).exponential(0.05, 300), 0.0, 61.0, 1e6]
    registry = CollectorRegistry()
    name = "gateway_request_duration_seconds"
    judge = LibraryHistogram(name, "words", registry=registry, buckets=DURATIONS_S)
    for value in drawn:
        judge.observe(float(value))
        # Of a beginning of 0, so that no digit is lost.
        metrics.done(outcome(model())._replace(started=0.0, ended=float(value)))
    expected = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    found = {
        (sample.name, sample.labels.get("le")): sample.value
        for sample in samples(metrics)
        if sample.name.startswith(name)
    }
    assert found == pytest.approx(expected)


def test_sizes_retries_and_computations_are_added_up(metrics: Metrics) -> None:
    served = model()
    batch = Timings(0.25, 0.5, 8, "digits-0")
    metrics.done(outcome(served, call=call(size_bytes=10), retries=2, timings=batch))
    metrics.done(outcome(served, call=call(size_bytes=20), timings=replace(batch, first=True)))
    metrics.done(outcome(served, retries=2, timings=Timings(0.5, 0.5, 3, "digits-0", first=True)))
    metrics.done(outcome(served, timings=Timings(cached=True)))
    error = ServingError(Kind.INVALID, "output 'y' is not finite", reason=NONFINITE_OUTPUT)
    metrics.done(outcome(served, timings=Timings(), error=error))
    metrics.done(outcome(served, nonfinite=True, timings=Timings(cached=True)))
    for name, expected in [
        ("gateway_request_bytes_total", 10 + 20 + 4 * 100),
        ("gateway_response_bytes_total", 5 * 12),
        ("gateway_retries_total", 4),
        ("gateway_cached_answers_total", 2),
        ("gateway_nonfinite_outputs_total", 2),
        ("gateway_batch_size_sum", 11),
        ("gateway_batch_size_count", 2),
        ("gateway_inference_duration_seconds_sum", 1.0),
        ("gateway_queue_duration_seconds_count", 3),
        ("gateway_queue_duration_seconds_sum", 1.0),
    ]:
        assert values(metrics, name) == {(): expected}, name


def test_what_is_shed_is_counted_by_reason(metrics: Metrics) -> None:
    for kind, reason in [
        (Kind.OVERLOADED, "queue_full"),
        (Kind.OVERLOADED, "queue_full"),
        (Kind.UNAVAILABLE, "breaker_open"),
        (Kind.INVALID, "no_such_reason"),
    ]:
        metrics.done(outcome(model(), error=ServingError(kind, "words", reason=reason)))
    assert values(metrics, "gateway_shed_total") == {
        (("reason", "queue_full"),): 2,
        (("reason", "breaker_open"),): 1,
    }


def test_nobody_outside_makes_a_series(metrics: Metrics) -> None:
    before = {(sample.name, *sample.labels.items()) for sample in samples(metrics)}
    for number in range(1000):
        asked = call(model=f"made-up-{number}", version=str(number), client=f"c{number}")
        error = ServingError(Kind.NOT_FOUND, "words", reason=f"reason {number}")
        shed = ServingError(Kind.OVERLOADED, "words", reason=f"reason {number}")
        metrics.done(outcome(None, call=asked, error=error))
        metrics.done(outcome(model("gone", str(number)), error=error))
        metrics.done(outcome(model(), error=shed))
    after = {(sample.name, *sample.labels.items()) for sample in samples(metrics)}
    # Of digits and of unknown: one duration's buckets, sum and count, one status, and reasons.
    added = 2 * (len(DURATIONS_S) + 1 + 2 + 1) + MAX_REASONS + 1
    assert len(after - before) == added
    assert not any("made-up" in str(series) for series in after)


def test_a_version_that_is_unloaded_leaves_no_series(metrics: Metrics) -> None:
    old, new = model(version="2.0.0"), model(version="3.0.0")
    metrics.add_model(old, lambda: READING)
    metrics.add_model(new, lambda: READING)
    for served in (old, new):
        metrics.done(outcome(served))
    versions = {sample.labels.get("version") for sample in samples(metrics)}
    assert {"1.0.0", "2.0.0", "3.0.0"} <= versions
    metrics.remove_model(old)
    metrics.done(outcome(old))
    left = [*samples(metrics)]
    assert "2.0.0" not in {sample.labels.get("version") for sample in left}
    unknown = [
        sample.value
        for sample in left
        if sample.name == "gateway_requests_total" and sample.labels["model"] == "unknown"
    ]
    assert unknown == [1]


def test_another_artifact_of_the_same_version_begins_anew_and_the_same_goes_on() -> None:
    metrics, old = Metrics({}), model()
    new = replace(old, digest="1" * 64)
    for served, goes_on in [(old, False), (old, True), (new, False)]:
        metrics.add_model(served, lambda: READING)
        assert bool(values(metrics, "gateway_requests_total")) == goes_on
        metrics.done(outcome(served))
    metrics.remove_model(old)
    assert values(metrics, "gateway_requests_total"), "those of what took its place"
    metrics.remove_model(new)
    metrics.remove_model(new)
    assert not values(metrics, "gateway_requests_total")


def test_predictions_and_confidence_are_those_of_softmax(metrics: Metrics) -> None:
    rows = np.random.default_rng(3).normal(0, 3, (200, 3)).astype(np.float32)
    for part in np.split(rows, [1, 4, 4, 90]):  # several sizes, and an empty one
        metrics.done(outcome(model(), outputs={"logits": part}))
    metrics.done(outcome(model(), outputs=logits([np.nan, 0, 1], [np.inf, 0, 1])))
    metrics.done(outcome(model(), outputs={"other": rows}))
    metrics.done(outcome(model(), outputs={"logits": rows[:, :2]}))

    registry = CollectorRegistry()
    classes = Counter("p", "words", ["class"], registry=registry)
    judge = LibraryHistogram("c", "words", registry=registry, buckets=CONFIDENCES)
    for row in rows.astype(np.float64):
        probabilities = np.exp(row) / np.exp(row).sum()
        classes.labels("abc"[int(np.argmax(row))]).inc()
        judge.observe(probabilities.max())
    for label in "abc":
        expected = registry.get_sample_value("p_total", {"class": label})
        assert values(metrics, "gateway_predictions_total")[(("class", label),)] == expected
    found = values(metrics, "gateway_prediction_confidence_ratio_bucket")
    assert len(found) == len(CONFIDENCES) + 1
    for ((_, bound),), count in found.items():
        assert count == registry.get_sample_value("c_bucket", {"le": bound})


@pytest.mark.parametrize("num_answers", [1, 10, 50_000])
def test_of_many_examples_a_sample_counts(num_answers: int) -> None:
    rows = np.tile(np.eye(3, dtype=np.float32), (100_000, 1))
    predictions = predictions_of(model())
    assert predictions is not None
    predictions.add({"logits": part} for part in np.array_split(rows, num_answers))
    assert 0.9 * MAX_VALUES <= 3 * predictions.counts.sum() <= MAX_VALUES
    assert np.ptp(predictions.counts) <= 1, "no class is favoured"


def test_classes_beyond_the_limit_share_a_series(metrics: Metrics) -> None:
    names = tuple(f"class-{number}" for number in range(MAX_CLASSES + 50))
    served = model("wide", classes=names)
    metrics.add_model(served, lambda: READING)
    for part in np.array_split(np.eye(len(names), dtype=np.float32), 2):
        metrics.done(outcome(served, outputs={"logits": part}))
        found = {
            sample.labels["class"]: sample.value
            for sample in samples(metrics)
            if sample.name == "gateway_predictions_total" and sample.labels["model"] == "wide"
        }
    assert found == dict.fromkeys(names[:MAX_CLASSES], 1.0) | {"other": 50.0}


def test_who_is_no_classifier_has_no_predictions(metrics: Metrics) -> None:
    served = model("regression", classes=())
    metrics.add_model(served, lambda: READING)
    metrics.done(outcome(served))
    names = {
        sample.name for sample in samples(metrics) if sample.labels.get("model") == "regression"
    }
    assert "gateway_requests_total" in names
    assert not any("prediction" in name for name in names)


def test_gauges_are_what_was_read(metrics: Metrics) -> None:
    metrics.watch_server(lambda: ServerReading(7, 8, draining=True))
    metrics.watch_cache(lambda: CacheReading(1, 2, 3, 4, 5, 6))
    metrics.watch_redis(lambda: RedisReading(11, 12, 13, 14, 15))
    metrics.watch_log(lambda: 9)
    found = {sample.name: sample for sample in samples(metrics)}
    expected = {
        "model_ready": 1,
        "replicas": 1,
        "replicas_wanted": 2,
        "queue_depth": 3,
        "queue_bytes": 4,
        "concurrency_limit": 5.5,
        "inflight_requests": 7,
        "inflight_bytes": 8,
        "draining": 1,
        "breaker_openings_total": 10,
        "cache_hits_total": 1,
        "cache_shared_total": 2,
        "cache_misses_total": 3,
        "cache_evictions_total": 4,
        "cache_entries": 5,
        "cache_bytes": 6,
        "redis_hits_total": 11,
        "redis_misses_total": 12,
        "redis_failures_total": 13,
        "redis_skipped_total": 14,
        "redis_foreign_total": 15,
        "log_lines_lost_total": 9,
    }
    assert {name: found[f"gateway_{name}"].value for name in expected} == expected
    assert values(metrics, "gateway_breaker_state") == {
        (("state", "closed"),): 0,
        (("state", "open"),): 0,
        (("state", "half_open"),): 1,
    }
    assert found["gateway_build_info"].labels == {"version": "1.2.3"}
    assert found["process_open_fds"].value > 0


def test_a_page_is_of_one_moment(metrics: Metrics) -> None:
    """Every request is in all of its metrics or in none, whatever is counted meanwhile."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            for _ in range(FOLD_EVERY // 2 + 1):
                metrics.done(outcome(model()))
            # An event loop waits too: a thread that never does can keep the interpreter's lock
            # from all others.
            time.sleep(1e-4)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(20):
            now = {
                sample.name: sample.value
                for sample in samples(metrics)
                if DIGITS.items() <= sample.labels.items()
                and sample.labels.get("class") in (None, "c")
            }
            count = now.get("gateway_requests_total", 0)
            for name in ("request_duration_seconds", "queue_duration_seconds"):
                assert now.get(f"gateway_{name}_count", 0) == count
            assert now["gateway_predictions_total"] == count
            assert now["gateway_response_bytes_total"] == 12 * count
    finally:
        stop.set()
        asking.join()
    assert count > FOLD_EVERY


def test_a_scrape_of_openmetrics_is_valid(metrics: Metrics) -> None:
    metrics.done(outcome(model()))
    page, content_type = asyncio.run(metrics.page("application/openmetrics-text; version=1.0.0"))
    assert content_type.startswith("application/openmetrics-text")
    assert {family.name for family in parse_openmetrics(page.decode())} >= {"gateway_requests"}
