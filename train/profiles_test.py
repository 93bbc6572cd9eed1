"""Traces are read by their format's rules, name what is slow, and change nothing that is learnt."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from registry.artifact import load
from train import train_flax, train_torch, training
from train.callbacks.trace_file import Busy, busy, read_trace
from train.checkpoint.run_directory import ARTIFACT, PROFILE
from train.cli import Train
from train.launch.process_group import join_alone
from train.testing.example import short_config

_TRAINERS: dict[str, Train] = {"flax": train_flax.train, "torch": train_torch.train}

# Of a matrix product, in each framework.
_KNOWN = {"flax": "fusion", "torch": "aten::mm"}


def _run(train: Train, directory: Path, **profiler: Any) -> dict[str, bytes]:
    join_alone()
    config = short_config(num_steps=5, callbacks={"profiler": profiler})
    train(config, directory)
    tensors = load(directory / ARTIFACT).tensors
    return {name: array.tobytes() for name, array in tensors.items()}


def _summary(directory: Path) -> dict[str, Any]:
    return json.loads((directory / PROFILE / "summary.json").read_text())


@pytest.mark.parametrize("framework", _TRAINERS)
def test_a_window_is_traced_and_changes_nothing(
    framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = _TRAINERS[framework]
    batch_of = training.batch_of

    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(0.3)
        return batch_of(*args, **options)

    plain = _run(train, tmp_path / "plain")
    monkeypatch.setattr(training, "batch_of", slow)
    assert _run(train, tmp_path / "traced", first_step=3, num_steps=2) == plain
    summary = _summary(tmp_path / "traced")
    assert (summary["first_step"], summary["num_steps"]) == (3, 2)
    assert summary["bottleneck"] == "data"
    words = (tmp_path / "traced" / PROFILE / "summary.txt").read_text()
    assert words.endswith("The bottleneck is data: waiting for the next batch.\n")
    assert summary["seconds_a_step"]["compute"] > 0
    names = {event["name"] for event in read_trace(tmp_path / "traced" / PROFILE)}
    assert any(_KNOWN[framework] in name for name in names)


def test_communication_is_what_no_computing_hides() -> None:
    def event(name: str, first: float, last: float, **args: str) -> dict[str, Any]:
        category = {"cat": "cpu_op"} if not args else {}
        return {
            "name": name,
            "ts": first * 1e6,
            "dur": (last - first) * 1e6,
            "args": args,
        } | category

    torch = [event("aten::mm", 0, 2), event("aten::add", 1, 3), event("gloo:all_reduce", 2, 7)]
    assert busy(torch) == pytest.approx(Busy(3.0, 4.0))
    xla = [
        event("dot.1", 0, 2, hlo_op="dot.1"),
        event("all-reduce.3", 1, 5, hlo_op="all-reduce.3"),
        {"name": "Wait", "ts": 0.0, "dur": 9e6, "args": {}},
    ]
    assert busy(xla) == pytest.approx(Busy(2.0, 3.0))
    gpu = [event("aten::mm", 0, 9), {"name": "gemm", "cat": "kernel", "ts": 0.0, "dur": 1e6}]
    assert busy(gpu) == pytest.approx(Busy(1.0, 0.0))
