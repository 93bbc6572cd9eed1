"""The benchmark of memory: what it counts, and its command line."""

from pathlib import Path

import pytest

from benchmarks.harness.record import Record
from benchmarks.harness.runner import run
from benchmarks.memory import measure
from benchmarks.memory.cases import ATTENTION, FULL, INPUT_BYTES, PLAIN, WAYS
from benchmarks.memory.findings import findings
from benchmarks.memory.sides import torch_peak_bytes
from benchmarks.memory.suite import SUITE


@pytest.mark.parametrize("network", INPUT_BYTES)
def test_torch_keeps_at_least_what_goes_into_blocks(network: str) -> None:
    plain = next(way for way in WAYS if (way.network, way.side) == (network, PLAIN))
    grown = torch_peak_bytes(plain, 3) - torch_peak_bytes(plain, 2)
    assert INPUT_BYTES[network] < grown < 100 * INPUT_BYTES[network]


def test_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = [way for way in WAYS if way.architecture == "mlp"]
    monkeypatch.setattr(measure, "WAYS", ways)
    assert run(SUITE, ["--depths", "3", "2", "--out", str(tmp_path)]) == 0
    (page,) = tmp_path.glob("*.md")
    (content,) = tmp_path.glob("*.json")
    record = Record.model_validate_json(content.read_text())
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert len(record.rows) == 2 * 2 * len(ways)
    assert record.findings == tuple(findings(record))
    assert {finding.reached for finding in record.findings} <= {True, False}
    printed = capsys.readouterr().out
    for text in (printed, page.read_text()):
        assert "transformer in torch" in text and "transformer in jax" in text
        assert ATTENTION in text and FULL in text


def test_of_one_number_of_blocks_nothing_is_summed_up(tmp_path: Path) -> None:
    assert run(SUITE, ["--depths", "2", "--frameworks", "torch", "--out", str(tmp_path)]) == 0
    (content,) = tmp_path.glob("*.json")
    record = Record.model_validate_json(content.read_text())
    assert all(finding.value is None for finding in record.findings)
