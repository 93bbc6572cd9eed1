"""The convergence benchmark as its users meet it, on runs that learn nothing."""

import math
from pathlib import Path

import pytest

from benchmarks import convergence, convergence_measure
from benchmarks.convergence_names import FLOAT32, FOUR_BITS, INT8, TASK_NAMES, VARIANT_NAMES
from benchmarks.convergence_run import Cell, Result
from benchmarks.convergence_statistics import Verdict
from benchmarks.convergence_summary import compare_all, curve, findings
from benchmarks.convergence_tasks import TASKS
from benchmarks.convergence_variants import VARIANTS
from benchmarks.record import Record


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
    code = convergence.main(("--tasks", task, *sizes, *chosen, "--out", str(tmp_path)))
    assert code in (0, convergence_measure.EXIT_DIFFERS)
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


def _result(variant: str, held_out_loss: float, accuracy: float = 0.5) -> Result:
    return Result(variant, [held_out_loss] * 60, held_out_loss, accuracy, None, 1.0)


def test_pairs_are_of_one_seed_and_margins_of_all() -> None:
    runs = {
        Cell("digits", world_size, seed, 60): [
            _result(FLOAT32, loss),
            _result(INT8, loss + 1e-4 * (seed % 2)),
            _result(FOUR_BITS, loss + 1 + 0.1 * seed),
        ]
        for world_size, seed, loss in (
            (2, 0, 1.0),
            (2, 1, 2.0),
            (2, 2, 3.0),
            (4, 3, 4.0),
            (4, 4, 5.0),
        )
    }
    tables = [table for table in compare_all(runs) if table.metric == "held-out loss"]
    assert [(table.world_size, table.num_seeds) for table in tables] == [(2, 3), (4, 2)]
    assert all(table.rows[INT8].margin == pytest.approx(math.sqrt(2.5)) for table in tables)
    assert tables[0].rows[FOUR_BITS].difference == pytest.approx(1.1)
    assert tables[0].rows[INT8].verdict == Verdict.EQUAL
    found = {finding.name: finding.reached for finding in findings(tables)}
    assert found["digits, 2 ranks, held-out loss: int8 + feedback is equal, p below"] is True


def test_divergence_is_a_result() -> None:
    runs = {
        Cell("digits", 2, seed, 60): [_result(FLOAT32, 1.0 + seed), _result(INT8, math.nan)]
        for seed in range(3)
    }
    held_out = next(compare_all(runs))
    assert held_out.rows[INT8].verdict == Verdict.DIFFERS
    assert next(findings([held_out])).reached is False


def test_curves_have_their_last_steps() -> None:
    points = curve(_result(FLOAT32, 2.0))
    assert points[0] == (3, 2.0) and points[-1] == (60, 2.0) and len(points) == 20
    assert curve(Result(FLOAT32, [1.0, 2.0], 0.0, 0.0, None, 0.0)) == [(1, 1.0), (2, 2.0)]


def test_seeds_are_of_one_number_of_ranks() -> None:
    cells = convergence_measure.cells_of(convergence.make_parser().parse_args([]))
    seeds = [cell.seed for cell in cells if cell.task == "digits"]
    assert seeds == list(range(8))
    assert {cell.world_size for cell in cells} == {2, 4}


def test_all_that_has_a_name_is_there() -> None:
    assert tuple(TASKS) == TASK_NAMES
    assert tuple(VARIANTS) == VARIANT_NAMES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tasks", "images"), "argument --tasks: invalid choice: 'images'"),
        (("--seeds", "0"), "argument --seeds: must be a whole number from 1 to 1000000, got '0'"),
        (("--variants", "int2"), "argument --variants: invalid choice: 'int2'"),
        (("--out", "/dev/null/here"), "--out: cannot make the directory /dev/null/here"),
    ],
)
def test_bad_arguments(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        convergence.main(arguments)
    stdout, stderr = capsys.readouterr()
    assert (exited.value.code, stdout) == (2, "")
    assert stderr.startswith("error: ") and message in stderr
