"""Shows what the convergence benchmark found: tables, Markdown, and curves."""

import math
import statistics
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.convergence.cases import FLOAT32, INT8, RUN_TABLE, VARIANT_NAMES, Cell
from benchmarks.convergence.findings import (
    Comparisons,
    compare_all,
    findings,
    verdicts,
)
from benchmarks.convergence.results import ACCURACY, LAST_STEPS, Result, bytes_ratio
from benchmarks.harness.plot import figure_png
from benchmarks.harness.record import Record, Row
from benchmarks.harness.suite import Report
from benchmarks.harness.text import fenced, finding_lines, ran_with_settings, table_lines
from benchmarks.tasks.comparison import SIGNIFICANCE, Verdict, deviation, probability_in_words
from benchmarks.tasks.curves import read_curve

EXIT_DIFFERS = 1

_PANEL_INCHES = (5.0, 3.6)
_NONE = "-"

HOW_TO_READ = (
    "Each run of a seed starts from the same weights and sees the same batches. Loss in nats, the "
    f"training loss over the last {LAST_STEPS} steps, +- the deviation over seeds. A difference is "
    "the mean over pairs of the same seed, variant less float32, +- its standard error; the "
    "distance is the root mean square over the pairs, in margins. The margin is the deviation of "
    "float32 over all of the task's seeds: p equal is of two one-sided paired t-tests against it, "
    "p differs of the paired t-test against zero, verdicts at "
    f"{SIGNIFICANCE:g} each, not corrected for their number. Bytes are counted, over those of a "
    "float32 ring; one-dimensional parameters travel in float32. The 4-bit rows are simulated: "
    "right in their numbers, while float32 is sent."
)

_TITLES = ("", "mean", "difference", "distance", "p equal", "p differs", "", "bytes")


def cell_line(cell: Cell, results: Sequence[Result]) -> str:
    """One line for the runs of one seed."""
    losses = ", ".join(f"{result.variant} {result.held_out_loss:.4f}" for result in results)
    return f"{cell.task}, {cell.world_size} ranks, seed {cell.seed}: held-out loss: {losses}"


def _comparison_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yields a table for each task, number of ranks and metric."""
    for table in compare_all(rows):
        yield from ("", _title(table))
        yield from table_lines(_TITLES, list(_cells(rows, table)))


def _title(table: Comparisons) -> str:
    margin = next(iter(table.rows.values())).margin
    return (
        f"{table.task}, {table.world_size} ranks, {table.num_seeds} seeds: {table.metric}, "
        f"margin {_number(margin, table.metric)}"
    )


def _plot(record: Record) -> bytes:
    """Draws, for each task, training loss over steps, and each variant's distance from float32."""
    runs = [row for row in record.rows if row.table == RUN_TABLE]
    tasks = list(dict.fromkeys(str(row.case["task"]) for row in runs))
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(2 * width, height * len(tasks) + 1), layout="constrained")
    grid = figure.subplots(len(tasks), 2, squeeze=False)
    for (absolute, relative), task in zip(grid, tasks, strict=True):
        curves = _curves([row for row in runs if row.case["task"] == task])
        baseline = curves[FLOAT32]
        for color, variant in enumerate(name for name in VARIANT_NAMES if name in curves):
            points = curves[variant]
            steps = list(points)
            style = {"color": f"C{color}", "linewidth": 1.2, "label": variant}
            means = [statistics.fmean(points[step]) for step in steps]
            absolute.plot(steps, means, **style)
            if variant != FLOAT32:
                distances = [_distance(points[step], baseline[step]) for step in steps]
                relative.plot(steps, distances, **style)
        noise = [deviation(baseline[step]) for step in baseline]
        relative.plot(list(baseline), noise, color="black", linestyle="--", label="seed noise")
        _dress(absolute, f"{task}: training loss")
        _dress(relative, f"{task}: distance from float32 of the same seed")
        relative.set_yscale("log")
    heading = f"Training with compressed gradients, means over seeds, {record.machine.cpu}"
    figure.suptitle(heading, fontsize=10)
    float32_line = grid[0][0].get_legend_handles_labels()
    others = grid[0][1].get_legend_handles_labels()
    handles, labels = (
        [*first[:1], *rest] for first, rest in zip(float32_line, others, strict=True)
    )
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    return figure_png(figure)


def _dress(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=9)
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel("nats", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def _curves(runs: Sequence[Row]) -> dict[str, dict[int, list[float]]]:
    """Returns each variant's losses at each step, one of each run, in one order for all.

    Those of training that had diverged are NaN.
    """
    all_points = [(row.side, read_curve(row.metrics)) for row in runs]
    steps = sorted({step for _, points in all_points for step in points})
    curves: dict[str, dict[int, list[float]]] = {}
    for variant, points in all_points:
        of_variant = curves.setdefault(variant, {step: [] for step in steps})
        for step in steps:
            of_variant[step].append(points.get(step, math.nan))
    return curves


def _distance(losses: Sequence[float], baseline: Sequence[float]) -> float:
    """Returns the root mean square over pairs."""
    return math.dist(losses, baseline) / math.sqrt(len(losses))


def _cells(rows: Sequence[Row], table: Comparisons) -> Iterator[tuple[str, ...]]:
    ratios = {
        row.side: bytes_ratio(row)
        for row in rows
        if row.table == RUN_TABLE
        and (row.case["task"], row.case["world_size"]) == (table.task, table.world_size)
    }
    for variant, found in table.rows.items():
        mean = _pair(found.mean, found.deviation, table.metric)
        ratio = ratios[variant]
        sent = _NONE if ratio is None else f"{ratio:.3f}"
        if variant == FLOAT32:
            yield (variant, mean, *[_NONE] * 4, "", "1")
            continue
        yield (
            variant,
            mean,
            _pair(found.difference, found.standard_error, table.metric),
            f"{found.distance / found.margin:.2f}" if found.margin else _NONE,
            probability_in_words(found.p_equal),
            probability_in_words(found.p_differs),
            str(found.verdict),
            sent,
        )


def _pair(value: float, error: float, metric: str) -> str:
    return f"{_number(value, metric)} +- {_number(error, metric)}"


def _number(value: float, metric: str) -> str:
    if math.isnan(value):
        return _NONE
    return f"{value:.2%}" if metric == ACCURACY else f"{value:.5f}"


def _closing(record: Record) -> Iterator[str]:
    yield from (*_comparison_lines(record.rows), "", HOW_TO_READ)
    yield from ("", "Findings", *finding_lines(record.findings))


def _sections(record: Record) -> list[str]:
    return [
        "## Findings",
        fenced(finding_lines(record.findings)),
        "## Where training ends",
        HOW_TO_READ,
        fenced(list(_comparison_lines(record.rows))[1:]),
    ]


def _status(record: Record) -> int:
    return EXIT_DIFFERS if Verdict.DIFFERS in verdicts(record.rows, INT8) else 0


REPORT = Report(
    findings=findings,
    closing=_closing,
    plot=_plot,
    plot_shows="Training losses",
    sections=_sections,
    introduction=lambda record: [ran_with_settings(record)],
    status=_status,
)
