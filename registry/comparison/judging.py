"""Whether a candidate passes gates, with the numbers that say so."""

import operator
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

from hpc.registry.v1 import registry_pb2

from registry.comparison.gates import Gate
from registry.comparison.metrics import (
    Measured,
    MetricComparison,
    compare_metric,
    same_examples,
)
from registry.comparison.speeds import SPEED_QUANTITIES, WHOLE_QUANTITIES, quantities
from registry.evaluations import StoredEvaluation

PASSED = registry_pb2.GATE_OUTCOME_PASSED
FAILED = registry_pb2.GATE_OUTCOME_FAILED
UNKNOWN = registry_pb2.GATE_OUTCOME_UNKNOWN

NO_CHAMPION = "there is no champion yet"

_HOLDS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_IN_WORDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}


class _Unknown(NamedTuple):
    """Why a number is not there."""

    reason: str


def judge(
    gates: Sequence[Gate],
    candidate: StoredEvaluation | None,
    champion: StoredEvaluation | None,
    *,
    has_champion: bool,
) -> list[registry_pb2.GateResult]:
    """Judges every gate.

    Args:
        gates: In order.
        candidate: What is to be promoted; None: it was never measured.
        champion: What it would replace; None: it was never measured, or there is none.
        has_champion: Whether there is one.

    Returns:
        A result for each gate. One relative to a champion is passed if there is no champion. Where
        a number that it needs was not measured, or is of other examples or of another machine than
        the one that it is compared with, it is unknown, which blocks as a failure does.
    """
    results = []
    for gate in gates:
        if candidate is None:
            found = UNKNOWN, "the candidate has no evaluation; run bench"
        elif gate.is_relative and not has_champion:
            found = PASSED, NO_CHAMPION
        elif gate.is_relative and champion is None:
            found = UNKNOWN, "the champion has no evaluation; run bench on it"
        else:
            outcome, detail = _judge(gate, candidate, champion)
            of_metric = gate.name not in (*SPEED_QUANTITIES, *WHOLE_QUANTITIES)
            if of_metric and outcome != UNKNOWN:
                detail += f"; {_measured_on(candidate)}"
            found = outcome, detail
        outcome, detail = found
        results.append(registry_pb2.GateResult(gate=str(gate), outcome=outcome, detail=detail))
    return results


def all_passed(results: Sequence[registry_pb2.GateResult]) -> bool:
    """Returns whether nothing blocks."""
    return all(result.outcome == PASSED for result in results)


def _judge(
    gate: Gate, candidate: StoredEvaluation, champion: StoredEvaluation | None
) -> tuple["registry_pb2.GateOutcome", str]:
    if gate.is_relative and champion is not None:
        if (problem := _incomparable(gate, candidate, champion)) is not None:
            return UNKNOWN, problem
        if gate.relation is None:
            return _judge_not_worse(gate, candidate, champion)
    value = _value(gate, candidate, "candidate")
    bound: float | _Unknown = (
        0.0 if champion is None or not gate.is_relative else _value(gate, champion, "champion")
    )
    for number in (value, bound):
        if isinstance(number, _Unknown):
            return UNKNOWN, number.reason
    assert isinstance(value, float)
    assert isinstance(bound, float)
    assert gate.relation is not None
    limit = _exact(gate.factor) * _exact(bound) + _exact(gate.offset)
    outcome = PASSED if _HOLDS[gate.relation](_exact(value), limit) else FAILED
    of_champion = f" (champion {bound:.6g})" if gate.is_relative else ""
    return outcome, f"{value:.6g}, {_IN_WORDS[gate.relation]} {float(limit):.6g}{of_champion}"


def _measured_on(stored: StoredEvaluation) -> str:
    """Returns on which examples, which whoever reads the log has to know."""
    data = stored.evaluation.data
    return f"{data.num_examples:,} examples of {data.source}"


def _exact(number: float) -> Decimal:
    """Returns the number as it is written: 0.99 - 0.005 is 0.985, and no rounding error more."""
    return Decimal(repr(float(number)))


def _value(gate: Gate, stored: StoredEvaluation, whose: str) -> "float | _Unknown":
    """Returns what a gate is about, of one evaluation."""
    if gate.name in WHOLE_QUANTITIES:
        return quantities(stored)[gate.name, None]
    if gate.name not in SPEED_QUANTITIES:
        metrics = stored.evaluation.metrics
        if gate.name in metrics:
            return float(metrics[gate.name])
        return _Unknown(f"{gate.name} of the {whose} was not measured, only {_listed(metrics)}")
    sizes = [int(speed.batch_size) for speed in stored.evaluation.speeds]
    size = gate.batch_size or min(sizes, default=0)
    if size not in sizes:
        measured = _listed(map(str, sizes)) or "none"
        return _Unknown(
            f"{gate.name} of the {whose} was not measured of batches of {size}, only of {measured}"
            if gate.batch_size
            else f"the {whose}'s speed was not measured"
        )
    return quantities(stored)[gate.name, size]


def _listed(names: object) -> str:
    return ", ".join(sorted(names, key=lambda name: (len(name), name)))  # type: ignore[call-overload]


def _incomparable(
    gate: Gate, candidate: StoredEvaluation, champion: StoredEvaluation
) -> str | None:
    """Returns why a number of the one says nothing beside that of the other; None: it does."""
    ours, theirs = candidate.evaluation, champion.evaluation
    if gate.name in (*SPEED_QUANTITIES, *WHOLE_QUANTITIES):
        if ours.host != theirs.host:
            return (
                f"measured on different machines: the candidate on {ours.host}, the champion on "
                f"{theirs.host}; run bench of both on one"
            )
        if gate.name in SPEED_QUANTITIES and gate.batch_size is None:
            smallest = [min((s.batch_size for s in e.speeds), default=0) for e in (ours, theirs)]
            if smallest[0] != smallest[1]:
                return (
                    f"the smallest batch measured is {smallest[0]} of the candidate and "
                    f"{smallest[1]} of the champion; name one, such as {gate.name}[batch=1]"
                )
        return None
    if not same_examples(candidate, champion):
        return (
            f"measured on different examples: the candidate on {ours.data.num_examples} of "
            f"{ours.data.source}, the champion on {theirs.data.num_examples} of "
            f"{theirs.data.source}; run bench of both on the same"
        )
    return None


def _judge_not_worse(
    gate: Gate, candidate: StoredEvaluation, champion: StoredEvaluation
) -> tuple["registry_pb2.GateOutcome", str]:
    ours, theirs = _value(gate, candidate, "candidate"), _value(gate, champion, "champion")
    for number in (ours, theirs):
        if isinstance(number, _Unknown):
            return UNKNOWN, number.reason
    assert isinstance(ours, float)
    assert isinstance(theirs, float)
    found = compare_metric(
        MetricComparison(
            gate.name,
            Measured(theirs, None),
            Measured(ours, None),
            candidate.evaluation.higher_is_better[gate.name],
        ),
        (champion, candidate),
    )
    if found.test is None or found.difference is None:
        return UNKNOWN, f"{gate.name} has no outcome for each example; compare it with a number"
    text = f"{ours:.6g}, champion {theirs:.6g}"
    if not gate.has_margin:
        outcome = FAILED if found.verdict == "worse" else PASSED
        return outcome, f"{text}, p = {found.test.p_value:.3g} by {found.test.method}"
    if found.interval is None:
        return UNKNOWN, f"{text}, but one example has no interval"
    # How much worse it may be at the most.
    worst = -found.interval.low if found.higher_is_better else found.interval.high
    outcome = PASSED if worst <= gate.offset else FAILED
    return outcome, (
        f"{text}, difference {found.difference:+.4g} with 95% interval "
        f"[{found.interval.low:+.4g}, {found.interval.high:+.4g}]"
    )
