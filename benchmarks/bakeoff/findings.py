"""Compares the runs of the bake-off: each optimizer with the baseline, and 8 bits with 32."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from benchmarks.bakeoff.cases import BASELINE, EIGHT_BITS
from benchmarks.bakeoff.results import TaskRuns, final_loss, runs_of
from benchmarks.harness.record import Finding, Record
from benchmarks.tasks.comparison import SIGNIFICANCE, Comparison, compare, deviation


class Line(NamedTuple):
    """One optimizer beside the baseline.

    Attributes:
      comparison: of the test losses.
      p: of a difference, corrected.
      verdict: in words.
    """

    comparison: Comparison
    p: float
    verdict: str


def lines_of(found: TaskRuns) -> dict[str, Line]:
    """Returns the optimizers beside AdamW; nothing if that was not run."""
    if BASELINE not in found.runs:
        return {}
    losses = {name: [*map(final_loss, runs)] for name, runs in found.runs.items()}
    margin = deviation(losses[BASELINE])
    compared = {
        name: compare(losses[name], losses[BASELINE], margin)
        for name in found.runs
        if not name.endswith(EIGHT_BITS) and name != BASELINE
    }
    corrected = holm({name: comparison.p_differs for name, comparison in compared.items()})
    return {
        name: Line(comparison, corrected[name], _verdict(comparison, corrected[name]))
        for name, comparison in compared.items()
    }


def eight_bit_lines(found: TaskRuns) -> dict[str, Comparison]:
    """Returns the runs in 8 bits beside those in 32."""
    compared = {}
    for name, runs in found.runs.items():
        if name.endswith(EIGHT_BITS):
            whole = [*map(final_loss, found.runs[name.removesuffix(EIGHT_BITS)])]
            compared[name] = compare([*map(final_loss, runs)], whole, deviation(whole))
    return compared


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Returns p-values corrected for their number; NaN stays, and does not count.

    Reference: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    known = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    corrected = dict(p_values)
    largest = 0.0
    for place, (p, name) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - place)))
        corrected[name] = largest
    return corrected


def _verdict(comparison: Comparison, p: float) -> str:
    if math.isnan(p):
        return "DIVERGED" if not math.isfinite(comparison.mean) else ""
    if p >= SIGNIFICANCE:
        return "not told apart"
    return "better" if comparison.difference < 0 else "WORSE"


def findings(record: Record) -> Iterator[Finding]:
    """Yields each optimizer's distance from AdamW, and what 8 bits change, for information."""
    for found in runs_of(record.rows):
        seeds = {name: len(runs) for name, runs in found.runs.items()}
        for name, line in lines_of(found).items():
            what = f"{found.task}: {name}: test loss less {BASELINE}'s ({line.verdict})"
            yield _finding(what, line.comparison.difference, seeds[name])
        for name, comparison in eight_bit_lines(found).items():
            what = f"{found.task}: {name}: test loss less 32 bits' ({comparison.verdict})"
            yield _finding(what, comparison.difference, seeds[name])


def _finding(name: str, value: float, cases: int) -> Finding:
    return Finding(name=name, value=value if math.isfinite(value) else None, cases=cases)
