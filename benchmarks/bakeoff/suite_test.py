"""The bake-off: statistics, what it writes, and its command line."""

import math
from pathlib import Path

import pytest

from benchmarks.bakeoff.findings import eight_bit_lines, holm, lines_of
from benchmarks.bakeoff.results import Result, run_row, runs_of
from benchmarks.bakeoff.search import Point
from benchmarks.bakeoff.suite import SUITE
from benchmarks.harness.record import Record, Row
from benchmarks.harness.runner import run


def _runs(side: str, *losses: float) -> list[Row]:
    return [
        run_row(
            "task",
            10,
            side,
            seed,
            Point(1e-3, 0.1),
            Result([loss], loss, loss, 0.5, 8.0, None, 1.0),
        )
        for seed, loss in enumerate(losses)
    ]


def test_verdicts() -> None:
    losses = {
        "adamw": (1.0, 1.1, 0.9, 1.05),
        "lion": (0.9, 0.98, 0.81, 0.94),
        "adan": (1.3, 1.42, 1.21, 1.36),
        "sophia": (1.05, 1.02, 0.97, 1.0),
        "adabelief": (1.0, math.inf, 0.9, 1.0),
        "lion, 8 bits": (0.901, 0.979, 0.811, 0.94),
    }
    (found,) = runs_of([row for side, values in losses.items() for row in _runs(side, *values)])
    verdicts = {name: line.verdict for name, line in lines_of(found).items()}
    assert verdicts == {
        "lion": "better",
        "adan": "WORSE",
        "sophia": "not told apart",
        "adabelief": "DIVERGED",
    }
    assert str(eight_bit_lines(found)["lion, 8 bits"].verdict) == "equal within seed noise"


def test_correction_for_many_tests() -> None:
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": math.nan})
    assert corrected["a"] == pytest.approx(0.03)
    assert corrected["c"] == corrected["b"] == pytest.approx(0.06)
    assert math.isnan(corrected["d"])


def test_tunes_trains_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--tasks digits --optimizers adamw sophia --trials 2 --seeds 2 --steps 8"
    assert run(SUITE, [*options.split(), "--out", str(tmp_path)]) == 0
    (page,) = tmp_path.glob("*.md")
    (content,) = tmp_path.glob("*.json")
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    record = Record.model_validate_json(content.read_text())
    assert sum(row.table == "trial" for row in record.rows) == 2 * 2
    assert sum(row.table == "run" for row in record.rows) == 2 * 2 * 2
    printed = capsys.readouterr().out
    assert "digits: 8 steps, 2 seeds" in printed and "sophia clipped" in printed
    assert "adamw, 8 bits" in page.read_text()
