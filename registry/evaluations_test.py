"""An evaluation is read as it was written, or refused: whatever was done to it."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hpc.registry.v1 import registry_pb2

from registry.errors import ArtifactError, PlaceTakenError
from registry.evaluation_example import (
    NUM_EXAMPLES,
    example_evaluation,
    example_outcomes,
    write_example,
)
from registry.evaluations import read_evaluation, write_evaluation

_FILES = ("evaluation.pb", "evaluation.pb.sha256", "examples.safetensors")


def _rewrite(directory: Path, message: registry_pb2.Evaluation) -> None:
    """Puts another message in place, digest and all, as one who may write there can."""
    content = message.SerializeToString(deterministic=True)
    (directory / "evaluation.pb").write_bytes(content)
    line = f"{hashlib.sha256(content).hexdigest()}  evaluation.pb\n"
    (directory / "evaluation.pb.sha256").write_text(line)


def _replace_examples(directory: Path, tensors: dict[str, np.ndarray]) -> None:
    """Puts other examples in place, with whatever vouches for them."""
    content = safetensors.numpy.save(tensors)
    (directory / "examples.safetensors").write_bytes(content)
    message = registry_pb2.Evaluation.FromString((directory / "evaluation.pb").read_bytes())
    message.examples_size_bytes = len(content)
    message.examples_sha256 = hashlib.sha256(content).hexdigest()
    _rewrite(directory, message)


def test_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = write_example(tmp_path / "e")
    found = read_evaluation(tmp_path / "e")
    assert found.evaluation == written.evaluation
    assert found.digest == written.digest
    assert found.outcomes.keys() == written.outcomes.keys() == {"accuracy", "loss_nats"}
    for name, values in written.outcomes.items():
        np.testing.assert_array_equal(found.outcomes[name], values)
    np.testing.assert_array_equal(found.weights, np.ones(NUM_EXAMPLES))
    assert sorted(os.listdir(tmp_path / "e")) == sorted(_FILES)


def test_its_identity_is_that_of_its_message(tmp_path: Path) -> None:
    found = write_example(tmp_path / "e")
    content = (tmp_path / "e/evaluation.pb").read_bytes()
    assert found.digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", _FILES)
def test_every_flipped_byte_is_found(tmp_path: Path, name: str) -> None:
    write_example(tmp_path / "e")
    path = tmp_path / "e" / name
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        )
        with pytest.raises(ArtifactError):
            read_evaluation(tmp_path / "e")
    path.write_bytes(content)
    read_evaluation(tmp_path / "e")


@pytest.mark.parametrize("name", _FILES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write_example(tmp_path / "e")
    (tmp_path / "e" / name).unlink()
    with pytest.raises(ArtifactError, match=f"no evaluation at .*: {name} missing"):
        read_evaluation(tmp_path / "e")


@pytest.mark.parametrize("name", _FILES)
def test_what_is_longer_or_shorter_is_refused(tmp_path: Path, name: str) -> None:
    write_example(tmp_path / "e")
    path = tmp_path / "e" / name
    content = path.read_bytes()
    for other in (content + b"\0", content[:-1], b""):
        path.write_bytes(other)
        with pytest.raises(ArtifactError):
            read_evaluation(tmp_path / "e")


def test_signatures_may_lie_beside_it_and_nothing_else(tmp_path: Path) -> None:
    written = write_example(tmp_path / "e")
    (tmp_path / "e/signatures").mkdir()
    (tmp_path / "e/signatures/0123456789abcdef.sig").write_text("{}")
    assert read_evaluation(tmp_path / "e").digest == written.digest
    (tmp_path / "e/signatures/note.txt").write_text("")
    with pytest.raises(ArtifactError, match="does not list: signatures/note.txt"):
        read_evaluation(tmp_path / "e")


def test_links_are_refused(tmp_path: Path) -> None:
    write_example(tmp_path / "e")
    path = tmp_path / "e/examples.safetensors"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="neither a plain file nor a directory"):
        read_evaluation(tmp_path / "e")


def test_there_has_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no such directory"):
        read_evaluation(tmp_path / "e")


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    written = write_example(tmp_path / "e")
    with pytest.raises(PlaceTakenError):
        write_example(tmp_path / "e", seed=1)
    assert read_evaluation(tmp_path / "e").digest == written.digest
    assert os.listdir(tmp_path) == ["e"]


def _set(**fields: object) -> Callable[[registry_pb2.Evaluation], None]:
    def change(message: registry_pb2.Evaluation) -> None:
        for name, value in fields.items():
            setattr(message, name, value)

    return change


# What breaks a rule, and what is said of it.
_BROKEN: dict[str, tuple[Callable[[registry_pb2.Evaluation], object], str]] = {
    "artifact": (_set(artifact_digest="A" * 64), "artifact_digest"),
    "name": (_set(name="../x"), "name is"),
    "version": (_set(version="1.0"), "version is"),
    "program": (_set(program="onnx"), "expected one of flax, torch, stablehlo, torch_export"),
    "commit": (_set(git_commit="main"), "git_commit"),
    "load": (_set(load_s=float("nan")), "load_s"),
    "memory": (_set(base_memory_bytes=400_000_000), "peak that is not below"),
    "source": (lambda m: setattr(m.data, "source", ""), "data.source is empty"),
    "data digest": (lambda m: setattr(m.data, "digest", "b"), "data.digest"),
    "no examples": (lambda m: setattr(m.data, "num_examples", 0), "num_examples"),
    "infinite": (lambda m: m.metrics.update({"loss_nats": float("inf")}), "loss_nats"),
    "undirected": (lambda m: m.metrics.update({"mae": 1.0}), "higher_is_better"),
    "no metrics": (lambda m: m.metrics.clear(), "metrics is empty"),
    "interval": (lambda m: setattr(m.metric_intervals["accuracy"], "low", 2.0), "lower one first"),
    "no metric's": (
        lambda m: m.metric_intervals["mae"].MergeFrom(m.metric_intervals["accuracy"]),
        "of no metric",
    ),
    "order": (lambda m: setattr(m.speeds[0], "batch_size", 8), "ascending"),
    "calls": (lambda m: setattr(m.speeds[0], "num_calls", 0), "num_calls"),
    "falling": (lambda m: setattr(m.speeds[0], "latency_p50_ms", 9.0), "falling percentiles"),
    "throughput": (lambda m: setattr(m.speeds[0], "examples_per_s", 0.0), "examples_per_s"),
    "time": (lambda m: setattr(m.measured_at, "nanos", -1), "measured_at"),
    "other metric": (lambda m: m.metrics.update({"accuracy": 0.99}), "the examples say"),
    "fewer": (lambda m: setattr(m.data, "num_examples", 39), r"expected float64 \[39\]"),
}


@pytest.mark.parametrize(("change", "message"), _BROKEN.values(), ids=_BROKEN)
def test_rules_hold_when_it_is_written_and_when_it_is_read(
    tmp_path: Path, change: Callable[[registry_pb2.Evaluation], object], message: str
) -> None:
    outcomes = example_outcomes()
    evaluation = example_evaluation(outcomes)
    change(evaluation)
    with pytest.raises(ArtifactError, match=message):
        write_evaluation(tmp_path / "e", evaluation, outcomes, np.ones(NUM_EXAMPLES))
    assert not os.listdir(tmp_path)

    stored = write_example(tmp_path / "e").evaluation
    change(stored)
    _rewrite(tmp_path / "e", stored)
    with pytest.raises(ArtifactError, match=message):
        read_evaluation(tmp_path / "e")


_OTHER_EXAMPLES: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "no weights": ({"outcome.accuracy": np.ones(NUM_EXAMPLES)}, "no tensor 'weight'"),
    "stranger": ({"weight": np.ones(40), "x": np.ones(40)}, "has a tensor 'x'"),
    "shape": ({"weight": np.ones((40, 1))}, r"expected float64 \[40\]"),
    "type": ({"weight": np.ones(40, np.float32)}, "expected float64"),
    "NaN": ({"weight": np.full(40, np.nan)}, "not finite"),
    "negative": ({"weight": np.full(40, -1.0)}, "expected numbers >= 0"),
    "nothing": ({"weight": np.zeros(40)}, "not all 0"),
    "unknown": ({"weight": np.ones(40), "outcome.mae": np.ones(40)}, "is no metric"),
    "weighted": ({"weight": np.full(40, 2.0), "outcome.accuracy": np.ones(40, bool)}, "not all 1"),
}


@pytest.mark.parametrize(("tensors", "message"), _OTHER_EXAMPLES.values(), ids=_OTHER_EXAMPLES)
def test_examples_that_are_none_are_refused(
    tmp_path: Path, tensors: dict[str, np.ndarray], message: str
) -> None:
    write_example(tmp_path / "e")
    _replace_examples(tmp_path / "e", tensors)
    with pytest.raises(ArtifactError, match=message):
        read_evaluation(tmp_path / "e")


def test_examples_in_no_format_are_refused(tmp_path: Path) -> None:
    message = write_example(tmp_path / "e").evaluation
    content = b"\xff" * 100
    (tmp_path / "e/examples.safetensors").write_bytes(content)
    message.examples_size_bytes = len(content)
    message.examples_sha256 = hashlib.sha256(content).hexdigest()
    _rewrite(tmp_path / "e", message)
    with pytest.raises(ArtifactError, match="its header is to take"):
        read_evaluation(tmp_path / "e")


def test_a_message_that_is_none_is_refused(tmp_path: Path) -> None:
    write_example(tmp_path / "e")
    (tmp_path / "e/evaluation.pb").write_bytes(b"\xff")
    digest = hashlib.sha256(b"\xff").hexdigest()
    (tmp_path / "e/evaluation.pb.sha256").write_text(f"{digest}  evaluation.pb\n")
    with pytest.raises(ArtifactError, match="not an Evaluation message"):
        read_evaluation(tmp_path / "e")
