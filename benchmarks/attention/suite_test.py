"""The attention benchmark as its users meet it, on problems that take no time."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.attention import suite
from benchmarks.attention.jax_sides import jax_sides
from benchmarks.attention.sides import ALL_FEATURES
from benchmarks.attention.times import AGREEMENT, MATMUL_SIZE, compare
from benchmarks.attention.torch_sides import torch_sides
from benchmarks.harness import timing
from benchmarks.harness.record import Record
from benchmarks.harness.runner import run

_SHORT = ("--quick", "--lengths", "64", "--head-dims", "16", "--budget-s", "0.001")
_NO_WAIT = ("--grace-s", "0.001")


# The first: it forks to measure memory, which a process that has computed could not.
def test_every_feature_on_every_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sides whose results differ are missing, so that nothing missing means that all agree.

    The numpy specification is a backend too; it is slow, and it is right.
    """
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    monkeypatch.setitem(MATMUL_SIZE, "cpu", 64)
    monkeypatch.setattr(timing, "TURN_S", 1e-6)  # a turn is one run
    options = ("--features", *sorted(ALL_FEATURES), "--dtypes", "float32", "--out", "results")
    options += ("--backends", "reference")
    code = run(suite.SUITE, (*_SHORT, *_NO_WAIT, *options))
    stdout, _ = capsys.readouterr()
    assert code == 0, stdout
    files = sorted((tmp_path / "results").iterdir())
    assert [file.suffix for file in files] == [".json", ".md", ".png"]
    assert len({file.stem for file in files}) == 1 and files[0].stem.endswith("-attention-cpu")
    record = Record.model_validate_json(files[0].read_text())
    assert [row for row in record.rows if row.missing is not None] == []
    assert {row.case["feature"] for row in record.rows if row.table == "time"} == ALL_FEATURES
    assert {row.side for row in record.rows if row.table == "memory"} >= {"torch sdpa", "jax.nn"}
    ratio = next(row for row in record.rows if row.side == "torch sdpa" and row.table == "time")
    ours = next(row for row in record.rows if row.side == "ours, torch" and row.table == "time")
    assert ratio.timing is not None and ours.timing is not None
    expected = ratio.timing.median_ms / ours.timing.median_ms
    assert ratio.metrics["times_ours"] == pytest.approx(expected)
    assert files[2].read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    page = files[1].read_text()
    assert "## Findings" in page and f"]({files[2].name})" in page
    assert "plain, float32, causal, 8 heads of 16" in stdout
    times = [row for row in record.rows if row.table == "time"]
    slow = [row for row in times if row.side.startswith("ours (reference), ")]
    # Forward, backward and both, in two frameworks; decoding is forward alone.
    steps = {(row.case["feature"], row.side, row.step) for row in slow}
    assert len(steps) == 2 * (3 * len(ALL_FEATURES - {"decode"}) + 1)
    assert all(row.timing is not None and row.timing.samples > 0 for row in slow)


def test_no_gpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "find_gpus", tuple)
    assert run(suite.SUITE, ["--device", "cuda"]) == 2
    message = "error: --device cuda: no NVIDIA GPU is found here\n"
    assert capsys.readouterr() == ("", message)


def test_compare_is_relative_to_the_first_peer() -> None:
    peer = [np.array([10.0, -1.0])]
    results = {"ours": [np.array([10.0, -1.5])], "peer": peer, "other": [np.array([9.0, -1.0])]}
    assert compare(results) == pytest.approx({"ours": 0.05, "other": 0.1})


def test_compare_fails_on_nan() -> None:
    results = {"peer": [np.ones(2)], "ours": [np.array([1.0, np.nan])]}
    assert not compare(results)["ours"] <= AGREEMENT["float32"]


def test_cuda_has_every_peer() -> None:
    sides = torch_sides("cuda", ("triton",)) | jax_sides("cuda", ("triton",))
    assert set(sides) == {
        "ours, torch",
        "ours, rotated before",
        "ours (triton), torch",
        "torch sdpa flash",
        "torch sdpa cudnn",
        "torch sdpa efficient",
        "torch sdpa math",
        "flex",
        "flash-attn",
        "flash-attn 3",
        "ours, jax",
        "ours (triton), jax",
        "jax.nn",
        "jax.nn cudnn",
        "xla formula",
    }
