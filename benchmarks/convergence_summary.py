"""Sums runs up: what each variant reached beside float32, and whether the proof holds."""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.convergence_names import (
    FLOAT32,
    FOUR_BITS,
    FOUR_BITS_A_TENSOR,
    INT8,
    INT8_WITHOUT_FEEDBACK,
)
from benchmarks.convergence_run import LAST_STEPS, Cell, Result
from benchmarks.convergence_statistics import SIGNIFICANCE, Comparison, Verdict, compare, deviation
from benchmarks.record import Finding, Row, Scalar

RUN_TABLE = "run"
COMPARISON_TABLE = "comparison"

HELD_OUT_LOSS, TRAIN_LOSS, ACCURACY = "held-out loss", "training loss", "held-out accuracy"
METRICS = (HELD_OUT_LOSS, TRAIN_LOSS, ACCURACY)

# Steps over which the losses of a curve are averaged, as a share of the run.
_POINTS_A_CURVE = 20

Runs = dict[Cell, list[Result]]


class Comparisons(NamedTuple):
    """One table: all variants of a task on so many ranks, in one metric."""

    task: str
    world_size: int
    metric: str
    num_seeds: int
    rows: dict[str, Comparison]


def metrics_of(result: Result) -> dict[str, float]:
    """Returns a run's results by their names in METRICS."""
    last = statistics.fmean(result.train_losses[-LAST_STEPS:])
    return {HELD_OUT_LOSS: result.held_out_loss, TRAIN_LOSS: last, ACCURACY: result.accuracy}


def compare_all(runs: Runs) -> Iterator[Comparisons]:
    """Yields a table for each task, number of ranks and metric.

    The margin of a task is float32's deviation over all of its seeds: that training is the same on
    any number of ranks but for the order of sums.
    """
    for task in dict.fromkeys(cell.task for cell in runs):
        of_task = {cell: results for cell, results in runs.items() if cell.task == task}
        for world_size in sorted({cell.world_size for cell in of_task}):
            cells = [cell for cell in of_task if cell.world_size == world_size]
            for metric in METRICS:
                margin = deviation(_values(of_task, list(of_task), FLOAT32, metric))
                baseline = _values(of_task, cells, FLOAT32, metric)
                rows = {
                    result.variant: compare(
                        _values(of_task, cells, result.variant, metric), baseline, margin
                    )
                    for result in of_task[cells[0]]
                }
                yield Comparisons(task, world_size, metric, len(cells), rows)


def findings(tables: Sequence[Comparisons]) -> Iterator[Finding]:
    """Yields the aims: 8 bits with feedback end equal, and the same tests see what 4 bits do.

    Then, for information, what error feedback is good for.
    """
    held_out = [table for table in tables if table.metric == HELD_OUT_LOSS]
    for table in tables:
        if (found := table.rows.get(INT8)) is not None:
            what = f"{INT8} is equal, p below"
            yield _finding(table, what, found.p_equal, found.verdict == Verdict.EQUAL)
    for table in held_out:
        if (found := table.rows.get(FOUR_BITS_A_TENSOR)) is not None:
            what = f"{FOUR_BITS_A_TENSOR}, differs, p below"
            yield _finding(table, what, found.p_differs, found.verdict == Verdict.DIFFERS)
    for table in held_out:
        for variant in (INT8, INT8_WITHOUT_FEEDBACK, FOUR_BITS):
            if (found := table.rows.get(variant)) is not None and found.margin > 0:
                yield Finding(
                    name=f"{_where(table)}: {variant}: distance in margins",
                    value=_known(found.distance / found.margin),
                    cases=table.num_seeds,
                )


def _finding(table: Comparisons, what: str, p: float, reached: bool) -> Finding:
    return Finding(
        name=f"{_where(table)}: {what}",
        value=_known(p),
        cases=table.num_seeds,
        aim=SIGNIFICANCE,
        reached=reached,
    )


def _where(table: Comparisons) -> str:
    return f"{table.task}, {table.world_size} ranks, {table.metric}"


def rows(runs: Runs, tables: Sequence[Comparisons]) -> Iterator[Row]:
    """Yields everything that was measured and compared."""
    for cell, results in runs.items():
        for result in results:
            yield Row(
                table=RUN_TABLE,
                case=dict(cell._asdict()),
                step="training",
                side=result.variant,
                metrics=_finite(_run_metrics(result)),
            )
    for table in tables:
        case: dict[str, Scalar] = {
            "task": table.task,
            "world_size": table.world_size,
            "metric": table.metric,
            "seeds": table.num_seeds,
        }
        for variant, comparison in table.rows.items():
            *numbers, verdict = comparison
            yield Row(
                table=COMPARISON_TABLE,
                case=case | {"verdict": str(verdict)},
                step="training",
                side=variant,
                metrics=_finite(dict(zip(Comparison._fields, numbers, strict=False))),
            )


def curve(result: Result) -> list[tuple[int, float]]:
    """Returns a run's training loss as (last step, mean since the point before)."""
    losses = result.train_losses
    width = max(1, len(losses) // _POINTS_A_CURVE)
    return [
        (start + width, statistics.fmean(losses[start : start + width]))
        for start in range(0, len(losses) - width + 1, width)
    ]


def bytes_ratio(runs: Runs, table: Comparisons, variant: str) -> float | None:
    """Returns a variant's bytes over those of float32, where they were counted."""
    for cell, results in runs.items():
        if (cell.task, cell.world_size) == (table.task, table.world_size):
            return next(result.bytes_ratio for result in results if result.variant == variant)
    return None


def _run_metrics(result: Result) -> dict[str, float]:
    metrics = {
        name.replace("-", "_").replace(" ", "_"): value
        for name, value in metrics_of(result).items()
    }
    metrics |= {f"train_loss_to_step_{at}": loss for at, loss in curve(result)}
    if result.bytes_ratio is not None:
        metrics["bytes_over_float32"] = result.bytes_ratio
    return metrics | {"duration_s": result.duration_s}


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    """Leaves out what JSON cannot hold: results of training that diverged, tests of one seed."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _values(runs: Runs, cells: Sequence[Cell], variant: str, metric: str) -> list[float]:
    """Returns a variant's results in the order of the cells."""
    return [
        metrics_of(result)[metric]
        for cell in cells
        for result in runs[cell]
        if result.variant == variant
    ]
