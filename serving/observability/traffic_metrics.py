"""Metrics of requests: how many, how they ended, how long they took, and what models said."""

from collections.abc import Iterable, Sequence

from serving.observability.families import Family, of_parts, of_series
from serving.observability.histogram import Histogram
from serving.observability.model_series import ModelSeries

_MODEL = ("model", "version")

_Parts = Iterable[tuple[Sequence[str], float | Histogram]]


def _predictions(one: ModelSeries) -> _Parts:
    if one.predictions is None:
        return []
    counts = one.predictions.counts.tolist()
    return [((label,), count) for label, count in zip(one.predictions.labels, counts, strict=True)]


def _confidence(one: ModelSeries) -> _Parts:
    return [] if one.predictions is None else [((), one.predictions.confidence)]


REQUESTS = (
    Family(
        "counter",
        "requests_total",
        (*_MODEL, "protocol", "status"),
        "Requests that ended, by how: ok, or what went wrong.",
        of_parts(lambda one: one.requests.items()),
    ),
    Family(
        "histogram",
        "request_duration_seconds",
        (*_MODEL, "protocol"),
        "From when a request was heard of until its answer, or its error, was known.",
        of_parts(lambda one: [((key,), value) for key, value in one.durations.items()]),
    ),
    Family(
        "histogram",
        "queue_duration_seconds",
        _MODEL,
        "From admission until the batch was sent to a replica, of requests that were computed.",
        of_series(lambda one: one.queue),
    ),
    Family(
        "histogram",
        "inference_duration_seconds",
        _MODEL,
        "Of the computation of a batch, as its replica measured it.",
        of_series(lambda one: one.inference),
    ),
    Family(
        "histogram",
        "batch_size",
        _MODEL,
        "Examples that were computed together, padding not counted.",
        of_series(lambda one: one.batch_sizes),
    ),
    Family(
        "counter",
        "request_bytes_total",
        _MODEL,
        "That requests held in memory.",
        of_series(lambda one: one.bytes_in),
    ),
    Family(
        "counter",
        "response_bytes_total",
        _MODEL,
        "Of the tensors in answers.",
        of_series(lambda one: one.bytes_out),
    ),
    Family(
        "counter",
        "shed_total",
        (*_MODEL, "reason"),
        "Requests that were turned away and not computed, by why.",
        of_parts(lambda one: [((key,), value) for key, value in one.shed.items()]),
    ),
    Family(
        "counter",
        "retries_total",
        _MODEL,
        "Replicas that were asked after another was lost.",
        of_series(lambda one: one.retries),
    ),
    Family(
        "counter",
        "cached_answers_total",
        _MODEL,
        "Requests whose answer was known, or being computed for another.",
        of_series(lambda one: one.cached),
    ),
)

OUTPUTS = (
    Family(
        "counter",
        "nonfinite_outputs_total",
        _MODEL,
        "Requests whose computed outputs held infinite values or NaN.",
        of_series(lambda one: one.nonfinite),
    ),
    Family(
        "counter",
        "predictions_total",
        (*_MODEL, "class"),
        "Examples for which a classifier found this class the likeliest; of large answers a sample "
        "counts, and classes beyond the first hundred are 'other'.",
        of_parts(_predictions),
    ),
    Family(
        "histogram",
        "prediction_confidence_ratio",
        _MODEL,
        "Probability of the likeliest class, of the same examples.",
        of_parts(_confidence),
    ),
)
