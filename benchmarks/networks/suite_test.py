"""The benchmark of networks: its sides train alike, and its command line."""

from pathlib import Path

import jax
import pytest

from benchmarks.harness.record import Record
from benchmarks.harness.runner import run
from benchmarks.networks import measure, runs
from benchmarks.networks.cases import BYTES, FRAMEWORKS, NETWORKS, Length
from benchmarks.networks.findings import findings, groups
from benchmarks.networks.suite import SUITE

jax.config.update("jax_disable_most_optimizations", True)

# Of texts of 512 bytes most of the time would be attention's, which XLA was told not to improve.
_SHORT = ("data.options.seq_len=64", "model.config.input.tokens.seq_len=64")

# Losses of 2 to 6 in float32, over 3 steps.
TOLERANCE = 2e-5


@pytest.mark.parametrize("network", NETWORKS)
def test_both_sides_train_alike_and_are_written_down(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    network: str,
) -> None:
    monkeypatch.setitem(runs.OF_NETWORK, BYTES, _SHORT)
    monkeypatch.setattr(measure, "QUICK", Length(num_steps=3, num_long_steps=3, budget_s=0.1))
    options = ["--networks", network, "--grace-s", "0.1", "--out", str(tmp_path)]
    assert run(SUITE, ["--quick", *options]) == 0
    (page,) = tmp_path.glob("*.md")
    (content,) = tmp_path.glob("*.json")
    record = Record.model_validate_json(content.read_text())
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert record.findings == tuple(findings(record))
    assert len(groups(record.rows)) == len(FRAMEWORKS)
    for row in (row for group in groups(record.rows) for row in group.values()):
        assert row.metrics["differs_at_most"] < TOLERANCE, (row.case, row.side)
    printed = capsys.readouterr().out
    for text in (printed, page.read_text()):
        assert f"{network} in flax" in text and f"{network} in torch" in text
