"""Sums runs up: what each variant reached beside float32, and whether the proof holds."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.convergence import cases
from benchmarks.convergence.results import HELD_OUT_LOSS, METRICS, value_of
from benchmarks.harness.record import Finding, Record, Row, finite
from benchmarks.tasks.comparison import SIGNIFICANCE, Comparison, Verdict, compare, deviation


class Comparisons(NamedTuple):
    """One table: all variants of a task on so many ranks, in one metric."""

    task: str
    world_size: int
    metric: str
    num_seeds: int
    rows: dict[str, Comparison]


def compare_all(rows: Iterable[Row]) -> Iterator[Comparisons]:
    """Yields a table for each task, number of ranks and metric, from the rows of runs.

    The margin of a task is float32's deviation over all of its seeds: that training is the same on
    any number of ranks but for the order of sums.
    """
    runs = [row for row in rows if row.table == cases.RUN_TABLE]
    for task in dict.fromkeys(str(row.case["task"]) for row in runs):
        of_task = [row for row in runs if row.case["task"] == task]
        for world_size in sorted({int(row.case["world_size"]) for row in of_task}):
            of_world = [row for row in of_task if row.case["world_size"] == world_size]
            num_seeds = len({row.case["seed"] for row in of_world})
            for metric in METRICS:
                margin = deviation(_values(of_task, cases.FLOAT32, metric))
                baseline = _values(of_world, cases.FLOAT32, metric)
                compared = {
                    variant: compare(_values(of_world, variant, metric), baseline, margin)
                    for variant in dict.fromkeys(row.side for row in of_world)
                }
                yield Comparisons(task, world_size, metric, num_seeds, compared)


def _values(runs: Sequence[Row], variant: str, metric: str) -> list[float]:
    """Returns a variant's results in the order of the runs, which is that of their seeds."""
    return [value_of(row, metric) for row in runs if row.side == variant]


def comparison_rows(tables: Iterable[Comparisons]) -> Iterator[Row]:
    """Yields what was compared."""
    for table in tables:
        for variant, comparison in table.rows.items():
            *numbers, verdict = comparison
            yield Row(
                table=cases.COMPARISON_TABLE,
                case={
                    "task": table.task,
                    "world_size": table.world_size,
                    "metric": table.metric,
                    "seeds": table.num_seeds,
                    "verdict": str(verdict),
                },
                step="training",
                side=variant,
                metrics=finite(dict(zip(Comparison._fields, numbers, strict=False))),
            )


def verdicts(rows: Iterable[Row], variant: str) -> set[str]:
    """Returns what was said of a variant, in any table."""
    compared = (row for row in rows if row.table == cases.COMPARISON_TABLE)
    return {str(row.case["verdict"]) for row in compared if row.side == variant}


def findings(record: Record) -> Iterator[Finding]:
    """Yields the aims: 8 bits with feedback end equal, and the same tests see what 4 bits do.

    Then, for information, what error feedback is good for.
    """
    tables = list(compare_all(record.rows))
    held_out = [table for table in tables if table.metric == HELD_OUT_LOSS]
    for table in tables:
        if (found := table.rows.get(cases.INT8)) is not None:
            what = f"{cases.INT8} is equal, p below"
            yield _finding(table, what, found.p_equal, found.verdict == Verdict.EQUAL)
    for table in held_out:
        if (found := table.rows.get(cases.FOUR_BITS_A_TENSOR)) is not None:
            what = f"{cases.FOUR_BITS_A_TENSOR}, differs, p below"
            yield _finding(table, what, found.p_differs, found.verdict == Verdict.DIFFERS)
    for table in held_out:
        for variant in (cases.INT8, cases.INT8_WITHOUT_FEEDBACK, cases.FOUR_BITS):
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


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
