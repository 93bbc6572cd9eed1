"""The benchmark of networks: its sides train alike, and its command line."""

from pathlib import Path

import pytest

from benchmarks.harness.record import Record
from benchmarks.harness.runner import run
from benchmarks.networks import measure
from benchmarks.networks.cases import MODELS, Preset
from benchmarks.networks.findings import findings, groups
from benchmarks.networks.suite import SUITE

# Losses of about 2 in float32, over 4 steps.
TOLERANCE = 2e-5


def test_both_sides_train_alike_and_are_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "QUICK", Preset(num_steps=4, budget_s=0.1))
    assert run(SUITE, ["--quick", "--grace-s", "0.1", "--out", str(tmp_path)]) == 0
    (page,) = tmp_path.glob("*.md")
    (content,) = tmp_path.glob("*.json")
    record = Record.model_validate_json(content.read_text())
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert record.findings == tuple(findings(record))
    assert len(groups(record.rows)) == 2 * len(MODELS)
    for row in (row for group in groups(record.rows) for row in group.values()):
        assert row.metrics["differs_at_most"] < TOLERANCE, (row.case, row.side)
    printed = capsys.readouterr().out
    for text in (printed, page.read_text()):
        assert "transformer in flax" in text and "perceptron in torch" in text
