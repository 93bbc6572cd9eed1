"""A gate passes where its numbers say so, and blocks where they are missing or incomparable."""

from pathlib import Path

import numpy as np
import pytest
from hpc.registry.v1 import registry_pb2

from registry.comparison.choice import choose, newest
from registry.comparison.gates import parse_gate
from registry.comparison.judging import FAILED, NO_CHAMPION, PASSED, UNKNOWN, all_passed, judge
from registry.evaluation_example import (
    NUM_EXAMPLES,
    example_evaluation,
    example_outcomes,
    write_example,
)
from registry.evaluations import StoredEvaluation, write_evaluation


def _stored(
    directory: Path, right: int, *, loss: float = 0.5, digest: str = "c" * 64, slowness: float = 1.0
) -> StoredEvaluation:
    """An evaluation that is right on the first examples."""
    outcomes = {
        "accuracy": np.arange(NUM_EXAMPLES) < right,
        "loss_nats": loss + 0.001 * np.arange(NUM_EXAMPLES),
    }
    message = example_evaluation(outcomes, slowness=slowness)
    message.data.examples_digest = digest
    return write_evaluation(directory, message, outcomes, np.ones(NUM_EXAMPLES))


def _judge(
    gate: str, candidate: StoredEvaluation | None, champion: StoredEvaluation | None, **more: bool
) -> registry_pb2.GateResult:
    known = {"has_champion": champion is not None} | more
    (result,) = judge([parse_gate(gate)], candidate, champion, **known)
    assert result.gate == gate
    return result


@pytest.mark.parametrize(
    ("gate", "outcome"),
    [
        ("accuracy >= 0.9", PASSED),
        ("accuracy > 0.9", FAILED),
        ("accuracy <= 0.9", PASSED),
        ("accuracy < 0.9", FAILED),
        ("accuracy >= champion", PASSED),
        ("accuracy > champion + 0.025", FAILED),  # 0.9 is 0.875 + 0.025, whatever floats say
        ("accuracy >= champion + 0.025", PASSED),
        ("accuracy >= champion - 0.1", PASSED),
        ("latency_p99_ms <= 1.2x champion", FAILED),
        ("latency_p99_ms <= 1.5x champion", PASSED),
        ("latency_p99_ms[batch=8] <= 12", PASSED),
        ("latency_p99_ms[batch=8] < 12", FAILED),
        ("examples_per_s >= 0.5x champion", PASSED),
        ("load_s <= 0.25", PASSED),
        ("peak_memory_mb <= 299", FAILED),
        ("loss_nats not worse than champion", FAILED),
        ("loss_nats not worse than champion by 0.2", PASSED),
        ("loss_nats not worse than champion by 0.05", FAILED),
        ("accuracy not worse than champion", PASSED),
        ("accuracy not worse than champion by 0.1", PASSED),
        ("top5_accuracy >= 0.9", UNKNOWN),
        ("top5_accuracy >= champion", UNKNOWN),
        ("latency_p99_ms[batch=32] <= 9", UNKNOWN),
        ("calibration_error not worse than champion", UNKNOWN),
        ("mae not worse than champion", UNKNOWN),
    ],
)
def test_by_numbers(tmp_path: Path, gate: str, outcome: int) -> None:
    champion = _stored(tmp_path / "champion", 35)
    candidate = _stored(tmp_path / "candidate", 36, loss=0.6, slowness=1.5)
    assert _judge(gate, candidate, champion).outcome == outcome


def test_the_numbers_are_said(tmp_path: Path) -> None:
    champion = _stored(tmp_path / "champion", 35)
    candidate = _stored(tmp_path / "candidate", 36)
    said = {
        gate: _judge(gate, candidate, champion).detail
        for gate in ("accuracy >= 0.98", "accuracy >= champion - 0.005", "top5_accuracy > 0")
    }
    assert said == {
        "accuracy >= 0.98": "0.9, at least 0.98; 40 examples of digits",
        "accuracy >= champion - 0.005": "0.9, at least 0.87 (champion 0.875); 40 examples of "
        "digits",
        "top5_accuracy > 0": "top5_accuracy of the candidate was not measured, only accuracy, "
        "loss_nats, calibration_error",
    }


def test_a_champion_that_is_better_by_chance_is_no_bar(tmp_path: Path) -> None:
    champion = _stored(tmp_path / "champion", 36)
    by_chance, clearly = _stored(tmp_path / "a", 33), _stored(tmp_path / "b", 20)
    gate = "accuracy not worse than champion"
    assert _judge(gate, by_chance, champion).outcome == PASSED
    assert _judge(gate, clearly, champion).outcome == FAILED
    # Of so few examples nobody can say that it is not 0.05 worse.
    assert _judge(f"{gate} by 0.05", by_chance, champion).outcome == FAILED


@pytest.mark.parametrize(
    "gate", ["accuracy >= champion", "load_s <= 2x champion", "mse not worse than champion"]
)
def test_the_first_has_no_champion_to_beat(tmp_path: Path, gate: str) -> None:
    candidate = _stored(tmp_path / "candidate", 36)
    found = _judge(gate, candidate, None)
    assert (found.outcome, found.detail) == (PASSED, NO_CHAMPION)
    # One that was never measured is no champion that is not there.
    found = _judge(gate, candidate, None, has_champion=True)
    assert found.outcome == UNKNOWN
    assert "the champion has no evaluation" in found.detail


def test_what_was_never_measured_is_unknown(tmp_path: Path) -> None:
    champion = _stored(tmp_path / "champion", 36)
    for gate in ("accuracy >= 0.5", "accuracy >= champion"):
        for more in (champion, None):
            found = _judge(gate, None, more)
            assert found.outcome == UNKNOWN
            assert "the candidate has no evaluation" in found.detail


def test_other_examples_are_not_compared(tmp_path: Path) -> None:
    champion = _stored(tmp_path / "champion", 36, digest="d" * 64)
    candidate = _stored(tmp_path / "candidate", 36)
    for gate in ("accuracy >= champion", "accuracy not worse than champion"):
        found = _judge(gate, candidate, champion)
        assert found.outcome == UNKNOWN
        assert "measured on different examples" in found.detail
    for gate in ("accuracy >= 0.9", "latency_p99_ms <= champion"):
        assert _judge(gate, candidate, champion).outcome == PASSED


def test_other_machines_are_not_compared(tmp_path: Path) -> None:
    champion = write_example(tmp_path / "champion", host="64 cores")
    candidate = write_example(tmp_path / "candidate")
    for gate in ("latency_p99_ms <= 9x champion", "peak_memory_mb <= champion"):
        found = _judge(gate, candidate, champion)
        assert found.outcome == UNKNOWN
        assert "measured on different machines" in found.detail
    for gate in ("latency_p99_ms <= 100", "accuracy >= champion"):
        assert _judge(gate, candidate, champion).outcome == PASSED


def test_batches_of_other_sizes_are_not_compared(tmp_path: Path) -> None:
    outcomes = example_outcomes()
    message = example_evaluation(outcomes)
    del message.speeds[0]
    champion = write_evaluation(tmp_path / "e", message, outcomes, np.ones(NUM_EXAMPLES))
    candidate = write_example(tmp_path / "candidate")
    found = _judge("latency_p99_ms <= champion", candidate, champion)
    assert found.outcome == UNKNOWN
    assert "name one, such as latency_p99_ms[batch=1]" in found.detail
    assert _judge("latency_p99_ms[batch=8] <= champion", candidate, champion).outcome == PASSED
    found = _judge("latency_p99_ms[batch=1] <= champion", candidate, champion)
    assert found.detail == (
        "latency_p99_ms of the champion was not measured of batches of 1, only of 8"
    )


def test_speed_that_was_not_measured_is_unknown(tmp_path: Path) -> None:
    outcomes = example_outcomes()
    message = example_evaluation(outcomes)
    del message.speeds[:]
    candidate = write_evaluation(tmp_path / "e", message, outcomes, np.ones(NUM_EXAMPLES))
    found = _judge("latency_p99_ms <= 1", candidate, None)
    assert (found.outcome, found.detail) == (UNKNOWN, "the candidate's speed was not measured")


def test_whatever_is_not_passed_blocks() -> None:
    results = {
        outcome: registry_pb2.GateResult(gate="a > 1", outcome=outcome)
        for outcome in registry_pb2.GateOutcome.values()
    }
    assert all_passed([results[PASSED]])
    for outcome in set(results) - {PASSED}:
        assert not all_passed([results[PASSED], results[outcome]])


def test_the_evaluations_that_fit_each_other_are_chosen(tmp_path: Path) -> None:
    ours = [_stored(tmp_path / f"a{i}", 30 + i, digest=d * 64) for i, d in enumerate("cd")]
    theirs = [_stored(tmp_path / f"b{i}", 35 + i, digest=d * 64) for i, d in enumerate("ed")]
    assert choose(ours, theirs) == (ours[1], theirs[1])
    assert choose(ours, []) == (newest(ours), None)
    assert choose([], []) == (None, None)
    late = _stored(tmp_path / "late", 39, digest="f" * 64)
    late.evaluation.measured_at.FromSeconds(1_900_000_000)
    assert newest([*ours, late]) is late
    assert choose(ours, [*theirs, late]) == (ours[1], theirs[1])
