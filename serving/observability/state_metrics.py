"""Metrics of what there is at the moment of a scrape: models, the gateway itself, caches."""

from serving.observability.families import (
    Family,
    Snapshot,
    Values,
    of_cache,
    of_models,
    of_redis,
    of_server,
)
from serving.observability.readings import BREAKER_STATES

_MODEL = ("model", "version")


def _breakers(now: Snapshot) -> Values:
    for labels, reading in now.models.items():
        for state in BREAKER_STATES:
            yield (*labels, state), reading.breaker == state


MODELS = (
    Family(
        "gauge",
        "model_ready",
        _MODEL,
        "1: requests for it are answered.",
        of_models(lambda one: one.ready),
    ),
    Family(
        "gauge",
        "replicas",
        _MODEL,
        "Replicas that are ready.",
        of_models(lambda one: one.replicas),
    ),
    Family(
        "gauge",
        "replicas_wanted",
        _MODEL,
        "Replicas that there should be.",
        of_models(lambda one: one.replicas_wanted),
    ),
    Family(
        "gauge",
        "queue_depth",
        _MODEL,
        "Requests that wait for a batch.",
        of_models(lambda one: one.queued_requests),
    ),
    Family(
        "gauge",
        "queue_bytes",
        _MODEL,
        "That requests in the queue hold in memory.",
        of_models(lambda one: one.queued_bytes),
    ),
    Family(
        "gauge",
        "breaker_state",
        (*_MODEL, "state"),
        "1: the circuit breaker is in this state.",
        _breakers,
    ),
    Family(
        "counter",
        "breaker_openings_total",
        _MODEL,
        "Times that the circuit breaker has opened.",
        of_models(lambda one: one.breaker_openings),
    ),
    Family(
        "gauge",
        "concurrency_limit",
        _MODEL,
        "Requests that are let in at once, as was learnt.",
        of_models(lambda one: one.concurrency_limit),
    ),
)

SERVER = (
    Family(
        "gauge",
        "inflight_requests",
        (),
        "Requests that are not answered yet.",
        of_server(lambda one: one.inflight_requests),
    ),
    Family(
        "gauge",
        "inflight_bytes",
        (),
        "That requests which are not answered yet hold in memory.",
        of_server(lambda one: one.inflight_bytes),
    ),
    Family(
        "gauge",
        "draining",
        (),
        "1: the gateway has been told to end.",
        of_server(lambda one: one.draining),
    ),
    Family(
        "counter",
        "events_total",
        ("event",),
        "What befell the gateway, as the log calls it: model_ready, replica_lost, breaker_opened.",
        lambda now: [((event,), count) for event, count in now.events.items()],
    ),
    Family(
        "histogram",
        "event_loop_lag_seconds",
        (),
        "How late the event loop is, ten times a second: below 0.01 it is well, above 0.5 "
        "something blocks it.",
        lambda now: [((), now.event_loop_lag)],
    ),
    Family(
        "counter",
        "log_lines_lost_total",
        (),
        "Lines of the log that were not written, since nobody read them in time.",
        lambda now: [((), now.lost_log_lines)],
    ),
)

CACHE = (
    Family(
        "counter",
        "cache_hits_total",
        (),
        "Answers that the cache had.",
        of_cache(lambda one: one.hits),
    ),
    Family(
        "counter",
        "cache_shared_total",
        (),
        "Answers that were being computed for another caller.",
        of_cache(lambda one: one.shared),
    ),
    Family(
        "counter",
        "cache_misses_total",
        (),
        "Answers that the cache did not have.",
        of_cache(lambda one: one.misses),
    ),
    Family(
        "counter",
        "cache_evictions_total",
        (),
        "Answers that the cache let go to make room.",
        of_cache(lambda one: one.evictions),
    ),
    Family(
        "gauge",
        "cache_entries",
        (),
        "Answers that the cache has.",
        of_cache(lambda one: one.entries),
    ),
    Family(
        "gauge",
        "cache_bytes",
        (),
        "That the answers in the cache hold in memory.",
        of_cache(lambda one: one.bytes),
    ),
)

REDIS = (
    Family(
        "counter",
        "redis_hits_total",
        (),
        "Answers that Redis had.",
        of_redis(lambda one: one.hits),
    ),
    Family(
        "counter",
        "redis_misses_total",
        (),
        "Answers that Redis did not have.",
        of_redis(lambda one: one.misses),
    ),
    Family(
        "counter",
        "redis_failures_total",
        (),
        "Commands to Redis that failed or took too long.",
        of_redis(lambda one: one.failures),
    ),
    Family(
        "counter",
        "redis_skipped_total",
        (),
        "Commands to Redis that were not sent, as too many had failed or were under way.",
        of_redis(lambda one: one.skipped),
    ),
    Family(
        "counter",
        "redis_foreign_total",
        (),
        "Values in Redis that were no answers to what was asked.",
        of_redis(lambda one: one.foreign),
    ),
)
