"""The benchmark of the training loop: what it times, and its command line."""

from pathlib import Path

import jax
import pytest

from benchmarks.harness.record import Record
from benchmarks.harness.runner import run
from benchmarks.networks.cases import FRAMEWORKS, MLP
from benchmarks.networks.findings import groups
from benchmarks.training import measure
from benchmarks.training.cases import (
    DATA_TABLE,
    DETERMINISTIC,
    LOOP,
    MAKING,
    PLAIN,
    PRESETS,
    SAVING,
    Length,
)
from benchmarks.training.report import findings
from benchmarks.training.suite import SUITE

jax.config.update("jax_disable_most_optimizations", True)


def test_what_is_timed_is_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    length = Length(chunk=2, long_chunk=1, num_chunks=2, data_s=0.01)
    monkeypatch.setattr(measure, "QUICK", length)
    monkeypatch.setattr(measure, "DETERMINISTIC_NETWORK", MLP)
    options = ["--networks", MLP, "--presets", "waves", "--grace-s", "0.1", "--out", str(tmp_path)]
    assert run(SUITE, ["--quick", *options]) == 0
    (page,) = tmp_path.glob("*.md")
    (content,) = tmp_path.glob("*.json")
    record = Record.model_validate_json(content.read_text())
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert record.findings == tuple(findings(record))
    found = groups(record.rows)
    assert [list(group) for group in found] == len(FRAMEWORKS) * [
        [LOOP, PLAIN, MAKING, DETERMINISTIC, SAVING]
    ]
    for group in found:
        assert all(row.timing is not None and row.timing.least_ms > 0 for row in group.values())
    data = [row for row in record.rows if row.table == DATA_TABLE]
    assert [row.case for row in data] == [
        {"preset": "waves", "framework": framework} for framework in FRAMEWORKS
    ]
    assert all(0 <= row.metrics["lost_share"] <= 1 for row in data)
    printed = capsys.readouterr().out
    for text in (printed, page.read_text()):
        assert f"{MLP} in flax" in text
        assert "waves in torch" in text


def test_every_preset_is_timed() -> None:
    presets = Path(__file__).parents[2] / "config"
    assert sorted(path.stem for path in presets.glob("*.yaml")) == sorted(PRESETS)
