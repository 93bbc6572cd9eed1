"""The convergence benchmark as its users meet it, on runs that learn nothing."""

import math
from pathlib import Path

import pytest

from base.options import Parser
from benchmarks.convergence.cases import FLOAT32, FOUR_BITS, INT8, VARIANT_NAMES, Cell, cells_of
from benchmarks.convergence.findings import compare_all, findings
from benchmarks.convergence.report import EXIT_DIFFERS
from benchmarks.convergence.results import Result, run_row
from benchmarks.convergence.sides import VARIANTS
from benchmarks.convergence.suite import SUITE, add_options
from benchmarks.harness.record import Record, Row
from benchmarks.harness.runner import run
from benchmarks.harness.testing import record_of
from benchmarks.tasks.comparison import Verdict
from benchmarks.tasks.curves import curve_metrics, read_curve
from benchmarks.tasks.task_names import TASK_NAMES
from benchmarks.tasks.tasks import TASKS


@pytest.mark.parametrize(
    ("task", "world_size", "chosen", "variants"),
    [
        ("digits", 2, (), VARIANT_NAMES),
        ("bytes", 4, ("--variants", FOUR_BITS, INT8), (FLOAT32, INT8, FOUR_BITS)),
    ],
)
def test_every_variant(
    task: str,
    world_size: int,
    chosen: tuple[str, ...],
    variants: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = ("--world-sizes", str(world_size), "--seeds", "2", "--steps", "4")
    code = run(SUITE, ("--tasks", task, *sizes, *chosen, "--out", str(tmp_path)))
    assert code in (0, EXIT_DIFFERS)
    stdout, _ = capsys.readouterr()
    assert f"{task}, {world_size} ranks, 2 seeds: held-out loss, margin" in stdout
    files = sorted(tmp_path.iterdir())
    assert [file.suffix for file in files] == [".json", ".md", ".png"]
    record = Record.model_validate_json(files[0].read_text())
    runs = [row for row in record.rows if row.table == "run"]
    assert [row.side for row in runs] == 2 * list(variants)
    assert {row.case["seed"] for row in runs} == {0, 1}
    counted = {row.side for row in runs if "bytes_over_float32" in row.metrics}
    assert INT8 in counted and FOUR_BITS not in counted
    by_side = {row.side: row.metrics for row in runs if row.case["seed"] == 1}
    assert by_side[FLOAT32]["held_out_loss"] != by_side[FOUR_BITS]["held_out_loss"]
    comparisons = [row for row in record.rows if row.table == "comparison"]
    assert len(comparisons) == 3 * len(variants)
    assert f"sha256_of_{task}" in record.settings
    assert f"]({files[2].name})" in files[1].read_text()
    assert files[2].read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def _run(cell: Cell, variant: str, held_out_loss: float) -> Row:
    return run_row(cell, Result(variant, [held_out_loss] * 60, held_out_loss, 0.5, None, 1.0))


def test_pairs_are_of_one_seed_and_margins_of_all() -> None:
    rows = []
    losses = ((2, 0, 1.0), (2, 1, 2.0), (2, 2, 3.0), (4, 3, 4.0), (4, 4, 5.0))
    for world_size, seed, loss in losses:
        cell = Cell("digits", world_size, seed, 60)
        rows.append(_run(cell, FLOAT32, loss))
        rows.append(_run(cell, INT8, loss + 1e-4 * (seed % 2)))
        rows.append(_run(cell, FOUR_BITS, loss + 1 + 0.1 * seed))
    tables = [table for table in compare_all(rows) if table.metric == "held-out loss"]
    assert [(table.world_size, table.num_seeds) for table in tables] == [(2, 3), (4, 2)]
    assert all(table.rows[INT8].margin == pytest.approx(math.sqrt(2.5)) for table in tables)
    assert tables[0].rows[FOUR_BITS].difference == pytest.approx(1.1)
    assert tables[0].rows[INT8].verdict == Verdict.EQUAL
    found = {finding.name: finding.reached for finding in findings(record_of(rows))}
    assert found["digits, 2 ranks, held-out loss: int8 + feedback is equal, p below"] is True


def test_divergence_is_a_result() -> None:
    cells = [Cell("digits", 2, seed, 60) for seed in range(3)]
    rows = [
        row
        for cell in cells
        for row in (_run(cell, FLOAT32, 1.0 + cell.seed), _run(cell, INT8, math.nan))
    ]
    held_out = next(compare_all(rows))
    assert held_out.rows[INT8].verdict == Verdict.DIFFERS
    assert next(findings(record_of(rows))).reached is False


def test_curves_have_their_last_steps() -> None:
    points = list(read_curve(_run(Cell("digits", 2, 0, 60), FLOAT32, 2.0).metrics).items())
    assert points[0] == (3, 2.0) and points[-1] == (60, 2.0) and len(points) == 20
    assert read_curve(curve_metrics([1.0, 2.0], 20)) == {1: 1.0, 2: 2.0}


def test_seeds_are_of_one_number_of_ranks() -> None:
    parser = Parser("Options.")
    add_options(parser)
    cells = cells_of(parser.parse_args([]))
    seeds = [cell.seed for cell in cells if cell.task == "digits"]
    assert seeds == list(range(8))
    assert {cell.world_size for cell in cells} == {2, 4}


def test_all_that_has_a_name_is_there() -> None:
    assert tuple(TASKS) == TASK_NAMES
    assert tuple(VARIANTS) == VARIANT_NAMES
