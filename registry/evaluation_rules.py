"""The rules an Evaluation message obeys before it is written and after it is read back.

Reference: proto/hpc/registry/v1/registry.proto states each rule beside its field.
"""

import math
from collections.abc import Iterable

from hpc.registry.v1 import registry_pb2

from registry.descriptor import GIT_COMMIT, MAX_NAME_LENGTH, NAME, SEMANTIC_VERSION, SHA256
from registry.errors import ArtifactError

# What can compute a model.
PROGRAMS = ("flax", "torch", "stablehlo", "torch_export")


def check_evaluation(evaluation: registry_pb2.Evaluation) -> None:
    """Raises ArtifactError, naming the field, if `evaluation` breaks a rule of its schema."""
    _check_identity(evaluation)
    _check_data(evaluation.data)
    _check_metrics(evaluation)
    _check_speeds(evaluation.speeds)
    _require(
        math.isfinite(evaluation.load_s) and evaluation.load_s > 0,
        f"load_s is {evaluation.load_s}; expected seconds, more than 0",
    )
    base, peak = evaluation.base_memory_bytes, evaluation.peak_memory_bytes
    _require(
        0 < base <= peak,
        f"base_memory_bytes is {base}, peak_memory_bytes {peak}; expected more than 0, and a peak "
        "that is not below it",
    )
    try:
        evaluation.measured_at.ToJsonString()
    except ValueError as error:
        raise ArtifactError(f"measured_at is no time: {error}") from error


def _check_identity(evaluation: registry_pb2.Evaluation) -> None:
    _check_digest("artifact_digest", evaluation.artifact_digest)
    _check_digest("examples_sha256", evaluation.examples_sha256)
    name, version = evaluation.name, evaluation.version
    _require(
        len(name) <= MAX_NAME_LENGTH and NAME.fullmatch(name),
        f"name is {name!r}; expected that of an artifact, such as 'digits'",
    )
    _require(
        SEMANTIC_VERSION.fullmatch(version),
        f"version is {version!r}; expected a semantic version such as '1.0.0'",
    )
    _require(
        evaluation.program in PROGRAMS,
        f"program is {evaluation.program!r}; expected one of {', '.join(PROGRAMS)}",
    )
    _require(
        GIT_COMMIT.fullmatch(evaluation.git_commit),
        f"git_commit is {evaluation.git_commit!r}; expected a commit hash or 'unknown'",
    )


def _check_data(data: registry_pb2.Data) -> None:
    for field in ("source", "split"):
        _require(getattr(data, field), f"data.{field} is empty; expected a name")
    for field in ("digest", "examples_digest"):
        _check_digest(f"data.{field}", getattr(data, field))
    _require(data.num_examples > 0, "data.num_examples is 0; expected at least 1")


def _check_metrics(evaluation: registry_pb2.Evaluation) -> None:
    metrics = evaluation.metrics
    _require(metrics, "metrics is empty; an evaluation has at least one")
    for key, value in metrics.items():
        _require(math.isfinite(value), f"metrics[{key!r}] is {value}; expected a finite number")
    for key, interval in evaluation.metric_intervals.items():
        where = f"metric_intervals[{key!r}]"
        _require(key in metrics, f"{where} is of no metric; expected one of {sorted(metrics)}")
        _require(
            -math.inf < interval.low <= interval.high < math.inf,
            f"{where} is from {interval.low} to {interval.high}; expected finite numbers, the "
            "lower one first",
        )
    said = evaluation.higher_is_better
    _require(
        set(said) == set(metrics),
        f"higher_is_better is of {sorted(said)}; expected each of {sorted(metrics)}",
    )


def _check_speeds(speeds: Iterable[registry_pb2.Speed]) -> None:
    before = 0
    for speed in speeds:
        size = speed.batch_size
        where = f"speeds[batch_size {size}]"
        _require(size > before, f"{where} is not above {before}; expected ascending sizes from 1")
        _require(speed.num_calls > 0, f"{where}.num_calls is 0; expected at least 1")
        numbers = {
            field.name: getattr(speed, field.name)
            for field in speed.DESCRIPTOR.fields
            if field.name not in ("batch_size", "num_calls")
        }
        for name, value in numbers.items():
            _require(
                0 < value < math.inf,
                f"{where}.{name} is {value}; expected a finite number above 0",
            )
        percentiles = [numbers[f"latency_p{p}_ms"] for p in (50, 90, 99)]
        _require(
            percentiles == sorted(percentiles), f"{where} has falling percentiles {percentiles}"
        )
        before = size


def _check_digest(field: str, digest: str) -> None:
    _require(
        SHA256.fullmatch(digest),
        f"{field} is {digest!r}; expected 64 lower-case hexadecimal digits",
    )


def _require(holds: object, message: str) -> None:
    if not holds:
        raise ArtifactError(message)
