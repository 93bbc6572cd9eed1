"""Two artifacts side by side, from what is stored of them alone: nothing is run.

compare(read_side("digits:1.0.0", directory_a, evaluation_a), read_side(...))
"""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from hpc.registry.v1 import registry_pb2

from registry.comparison.changes import Change, changes, signature, surroundings
from registry.comparison.metrics import Histogram, MetricComparison, compare_metrics, same_examples
from registry.comparison.sides import Side
from registry.comparison.speeds import QuantityComparison, compare_quantities


class SideFacts(NamedTuple):
    """What one of the artifacts is, for a reader.

    Attributes:
        label: What its user calls it.
        name: Of the model.
        version: Of it.
        digest: Of the artifact.
        architecture: Of its network.
        measured: On what, where and when its evaluation was made; None: there is none.
    """

    label: str
    name: str
    version: str
    digest: str
    architecture: str
    measured: "Measurement | None"


class Measurement(NamedTuple):
    """How an evaluation was made."""

    digest: str
    program: str
    source: str
    split: str
    num_examples: int
    examples_digest: str
    host: str
    measured_at: str


@dataclass(frozen=True)
class Comparison:
    """Two artifacts side by side; whatever is of both is that of `b` against that of `a`.

    Attributes:
        a: The one.
        b: The other.
        same_examples: Whether metrics were measured on the same examples, and compared in pairs.
        same_host: Whether speed was measured on the same machine, so that ratios mean something.
        metrics: Every one, by name.
        speeds: Latency and throughput by batch size, time to load and memory.
        signature: What differs in inputs and outputs.
        needs_new_major: Whether clients of one would break with the other.
        model: What differs in the network's configuration.
        config: What differs in what they were trained from; None: one does not say.
        surroundings: What else differs: commit, data, libraries, environment.
        notes: What a reader has to know of all this.
    """

    a: SideFacts
    b: SideFacts
    same_examples: bool
    same_host: bool
    metrics: list[MetricComparison]
    speeds: list[QuantityComparison]
    signature: list[Change]
    needs_new_major: bool
    model: list[Change]
    config: list[Change] | None
    surroundings: list[Change]
    notes: list[str]


def compare(a: Side, b: Side) -> Comparison:
    """Compares two artifacts by what is stored of them."""
    of_signature = changes(signature(a.artifact), signature(b.artifact))
    # Objects have no order, but tensors do: callers may rely on it.
    reordered = list(signature(a.artifact)) != list(signature(b.artifact))
    config = None
    if a.config is not None and b.config is not None:
        config = changes(a.config, b.config)
    return Comparison(
        a=_facts(a),
        b=_facts(b),
        same_examples=same_examples(a.evaluation, b.evaluation),
        same_host=_same_host(a, b),
        metrics=compare_metrics(a, b),
        speeds=compare_quantities(a.evaluation, b.evaluation),
        signature=of_signature,
        needs_new_major=bool(of_signature) or reordered,
        model=changes(_model(a), _model(b)),
        config=config,
        surroundings=changes(surroundings(a.artifact), surroundings(b.artifact)),
        notes=_notes(a, b),
    )


def _facts(side: Side) -> SideFacts:
    artifact, stored = side.artifact, side.evaluation
    return SideFacts(
        label=side.label,
        name=artifact.name,
        version=artifact.version,
        digest=side.digest,
        architecture=artifact.model.architecture,
        measured=None if stored is None else _measurement(stored.evaluation, stored.digest),
    )


def _measurement(evaluation: registry_pb2.Evaluation, digest: str) -> Measurement:
    return Measurement(
        digest=digest,
        program=evaluation.program,
        source=evaluation.data.source,
        split=evaluation.data.split,
        num_examples=evaluation.data.num_examples,
        examples_digest=evaluation.data.examples_digest,
        host=evaluation.host,
        measured_at=evaluation.measured_at.ToJsonString(),
    )


def _model(side: Side) -> dict[str, Any]:
    model = side.artifact.model
    return {"architecture": model.architecture, "config": json.loads(model.config_json)}


def _same_host(a: Side, b: Side) -> bool:
    if a.evaluation is None or b.evaluation is None:
        return False
    return a.evaluation.evaluation.host == b.evaluation.evaluation.host


def _notes(a: Side, b: Side) -> list[str]:
    """Says what keeps the two from being compared as well as they could be."""
    unmeasured = [side.label for side in (a, b) if side.evaluation is None]
    if unmeasured:
        return [
            f"{' and '.join(unmeasured)} has no evaluation: metrics are those that training "
            "measured, of examples that nobody knows to be the same, and there is no paired test"
        ]
    notes = []
    if not same_examples(a.evaluation, b.evaluation):
        notes.append(
            "metrics were measured on different examples: intervals are of independent draws, and "
            "there is no paired test"
        )
    if not _same_host(a, b):
        notes.append(
            "speed and memory were measured on different machines: their ratios are of these, too"
        )
    return notes


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Returns the comparison as JSON has it; every number is finite."""
    return {
        "a": _named(comparison.a),
        "b": _named(comparison.b),
        "same_examples": comparison.same_examples,
        "same_host": comparison.same_host,
        "metrics": [_metric(found) for found in comparison.metrics],
        "speeds": [found._asdict() for found in comparison.speeds],
        "signature": _changes(comparison.signature),
        "needs_new_major": comparison.needs_new_major,
        "model": _changes(comparison.model),
        "config": None if comparison.config is None else _changes(comparison.config),
        "surroundings": _changes(comparison.surroundings),
        "notes": comparison.notes,
    }


def _named(facts: SideFacts) -> dict[str, Any]:
    measured = None if facts.measured is None else facts.measured._asdict()
    return facts._asdict() | {"measured": measured}


def _metric(found: MetricComparison) -> dict[str, Any]:
    examples = None
    if found.examples is not None:
        kind = "histogram" if isinstance(found.examples, Histogram) else "pairs"
        examples = {"kind": kind, **found.examples._asdict()}
    return {
        **found._asdict(),
        "a": None if found.a is None else found.a._asdict(),
        "b": None if found.b is None else found.b._asdict(),
        "test": None if found.test is None else found.test._asdict(),
        "examples": examples,
    }


def _changes(found: list[Change]) -> list[dict[str, Any]]:
    return [change._asdict() for change in found]
