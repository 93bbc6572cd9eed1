"""What is said of two artifacts follows from what is stored of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hpc.artifact.v1 import artifact_pb2
from scipy import stats

from registry.artifact import publish
from registry.comparison.changes import changes
from registry.comparison.comparison import as_json, compare
from registry.comparison.example import example_sides, side
from registry.comparison.metrics import histogram
from registry.comparison.sides import Side, read_side
from registry.errors import ArtifactError
from registry.evaluation_example import write_example
from registry.example import example_artifact, example_tensors


def _json(a: Side, b: Side) -> dict[str, object]:
    """As another program reads it, which knows neither NaN nor Infinity."""
    return json.loads(json.dumps(as_json(compare(a, b)), allow_nan=False))  # type: ignore[no-any-return]


def test_metrics_are_compared_in_pairs(tmp_path: Path) -> None:
    a, b = example_sides(tmp_path)
    assert a.evaluation is not None
    assert b.evaluation is not None
    ours, theirs = a.evaluation.outcomes, b.evaluation.outcomes
    found = {metric.name: metric for metric in compare(a, b).metrics}
    assert found.keys() == {"accuracy", "loss_nats", "calibration_error"}

    accuracy = found["accuracy"]
    cells = [
        int(np.count_nonzero((ours["accuracy"] == i) & (theirs["accuracy"] == j)))
        for i in (True, False)
        for j in (True, False)
    ]
    assert accuracy.examples == tuple(cells)
    assert accuracy.difference == theirs["accuracy"].mean() - ours["accuracy"].mean()
    assert accuracy.paired
    assert accuracy.test is not None
    expected = stats.binomtest(min(cells[1:3]), sum(cells[1:3]), 0.5).pvalue
    assert accuracy.test.p_value == pytest.approx(expected)
    assert accuracy.verdict == "worse"

    loss = found["loss_nats"]
    assert loss.test is not None
    assert loss.interval is not None
    assert loss.difference == pytest.approx((theirs["loss_nats"] - ours["loss_nats"]).mean())
    # Of 40 examples both are about those of the paired t-test.
    t_test = stats.ttest_rel(theirs["loss_nats"], ours["loss_nats"])
    assert loss.test.p_value == pytest.approx(t_test.pvalue, abs=0.01)
    t_interval = t_test.confidence_interval(0.95)
    assert loss.interval == pytest.approx((t_interval.low, t_interval.high), rel=0.1)
    assert loss.verdict == "worse"

    assert found["calibration_error"].test is None
    assert found["calibration_error"].verdict is None
    assert found["calibration_error"].difference == 0


def test_to_turn_sides_turns_signs(tmp_path: Path) -> None:
    a, b = example_sides(tmp_path)
    for there, back in zip(compare(a, b).metrics, compare(b, a).metrics, strict=True):
        assert there.difference == pytest.approx(-(back.difference or 0))
        if there.interval is not None and back.interval is not None:
            assert there.interval == pytest.approx((-back.interval.high, -back.interval.low))
        turned = {"better": "worse", "worse": "better"}
        assert turned.get(there.verdict or "", there.verdict) == back.verdict


def test_an_artifact_is_like_itself(tmp_path: Path) -> None:
    a, _ = example_sides(tmp_path)
    found = compare(a, a)
    assert {metric.verdict for metric in found.metrics} == {"equal", None}
    assert {speed.ratio for speed in found.speeds} == {1.0}
    assert (found.signature, found.model, found.config, found.surroundings) == ([], [], [], [])
    assert found.same_examples
    assert found.same_host
    assert not found.needs_new_major
    assert not found.notes


def test_speeds_have_ratios(tmp_path: Path) -> None:
    found = {(s.name, s.batch_size): s for s in compare(*example_sides(tmp_path)).speeds}
    assert len(found) == 2 * 5 + 2
    assert found["latency_p99_ms", 8].ratio == pytest.approx(1.5)
    assert found["examples_per_s", 1].ratio == pytest.approx(1 / 1.5)
    assert found["load_s", None].ratio == 1
    assert found["peak_memory_mb", None].a == 300


def test_configurations_are_compared_key_by_key(tmp_path: Path) -> None:
    a, b = example_sides(tmp_path)
    found = compare(a, b)
    assert found.config == [
        ("data.augment", None, True),
        ("run.num_steps", 1200, 1200.5),
        ("run.seed", 7, 8),
    ]
    assert found.surroundings == [("seed", 7, 8)]
    assert compare(a, replace(b, config=None)).config is None


def test_values_that_python_calls_equal_are_changes() -> None:
    a = {"x": 1, "y": True, "z": {"inner": [1]}, "same": 2, "empty": {}}
    b = {"x": 1.0, "y": 1, "z": {"inner": [1, 2]}, "same": 2, "empty": {"now": 0}}
    assert changes(a, b) == [
        ("empty", {}, None),
        ("empty.now", None, 0),
        ("x", 1, 1.0),
        ("y", True, 1),
        ("z.inner", [1], [1, 2]),
    ]


def test_other_tensors_need_a_new_major(tmp_path: Path) -> None:
    a, b = example_sides(tmp_path)
    b.artifact.outputs[0].shape[1] = 11
    found = compare(a, b)
    assert found.needs_new_major
    assert found.signature == [("output logits", "FP32 [-1, 10]", "FP32 [-1, 11]")]


def test_tensors_in_another_order_need_a_new_major(tmp_path: Path) -> None:
    a, b = example_sides(tmp_path)
    more = artifact_pb2.TensorSpec(name="extra", datatype="FP32", shape=[-1])
    for artifact, place in ((a.artifact, 0), (b.artifact, 1)):
        artifact.outputs.insert(place, more)
    found = compare(a, b)
    assert found.needs_new_major
    assert not found.signature


def test_of_other_examples_there_is_no_paired_test(tmp_path: Path) -> None:
    a, b = example_sides(tmp_path)
    assert b.evaluation is not None
    b.evaluation.evaluation.data.examples_digest = "d" * 64
    found = compare(a, b)
    assert not found.same_examples
    assert "different examples" in found.notes[0]
    for metric in found.metrics:
        assert metric.test is None
        assert metric.examples is None
        assert not metric.paired
    accuracy = found.metrics[0]
    assert accuracy.name == "accuracy"
    assert accuracy.interval is not None
    assert accuracy.interval.low <= (accuracy.difference or 0) <= accuracy.interval.high


def test_of_other_machines_it_is_said(tmp_path: Path) -> None:
    a, _ = example_sides(tmp_path)
    other = side("other", example_artifact(), write_to=tmp_path / "other", host="64 cores")
    found = compare(a, other)
    assert not found.same_host
    assert "different machines" in found.notes[0]


def test_without_evaluations_there_is_what_training_measured(tmp_path: Path) -> None:
    a, b = example_sides(tmp_path)
    b.artifact.metrics["accuracy"] = 0.5
    b.artifact.metric_intervals["accuracy"].low = 0.45
    b.artifact.metric_intervals["accuracy"].high = 0.55
    found = compare(a, replace(b, evaluation=None))
    assert found.notes
    assert found.b.measured is None
    accuracy = {metric.name: metric for metric in found.metrics}["accuracy"]
    assert accuracy.difference == pytest.approx(0.5 - 0.97)
    assert accuracy.verdict == "worse"  # the interval is far from 0
    assert accuracy.test is None
    assert {speed.ratio for speed in found.speeds} == {None}


def test_numbers_of_which_json_has_none_are_left_out(tmp_path: Path) -> None:
    a, b = (replace(s, evaluation=None) for s in example_sides(tmp_path))
    a.artifact.metrics["huge"], b.artifact.metrics["huge"] = -1.7e308, 1.7e308
    found = {metric["name"]: metric for metric in _json(a, b)["metrics"]}  # type: ignore[attr-defined]
    assert found["huge"]["difference"] is None


def test_json_holds_all_of_it(tmp_path: Path) -> None:
    a, b = example_sides(tmp_path)
    found = _json(a, b)
    assert found.keys() == set(compare(a, b).__dataclass_fields__)
    first = found["metrics"][0]  # type: ignore[index]
    assert first["name"] == "accuracy"
    assert first["examples"]["kind"] == "pairs"
    assert first["test"]["method"] == "McNemar's exact test"
    assert found["b"]["measured"]["examples_digest"] == "c" * 64  # type: ignore[index]


def test_a_histogram_counts_every_example() -> None:
    differences = np.array([-1.0, 0.0, 0.0, 0.3, 3.1])
    found = histogram(differences)
    assert sum(found.counts) == 5
    assert found.edges[0] == -3.1
    assert found.edges[-1] == 3.1
    middle = len(found.counts) // 2
    assert found.counts[middle] == 2
    assert found.edges[middle] < 0 < found.edges[middle + 1]


def test_a_side_is_read_from_its_directory(tmp_path: Path) -> None:
    publish(tmp_path / "artifact", example_artifact(), example_tensors())
    found = read_side("digits", tmp_path / "artifact")
    assert found.artifact.version == "1.2.3"
    assert found.config is None
    with pytest.raises(ArtifactError, match="is of artifact a{64}, not of digits, which is"):
        read_side("digits", tmp_path / "artifact", write_example(tmp_path / "evaluation"))
