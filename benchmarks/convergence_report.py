"""Shows what the convergence benchmark found: tables, Markdown, and curves."""

import io
import math
import statistics
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.convergence_names import FLOAT32, VARIANT_NAMES
from benchmarks.convergence_run import LAST_STEPS, Cell, Result
from benchmarks.convergence_statistics import SIGNIFICANCE, deviation
from benchmarks.convergence_summary import (
    ACCURACY,
    Comparisons,
    Runs,
    bytes_ratio,
    compare_all,
    curve,
)
from benchmarks.machine import in_words
from benchmarks.record import Record, fenced, finding_lines, table_lines

_PANEL_INCHES = (5.0, 3.6)
_DOTS_PER_INCH = 110
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


def comparison_lines(runs: Runs) -> Iterator[str]:
    """Yields a table for each task, number of ranks and metric."""
    for table in compare_all(runs):
        yield from ("", title(table))
        yield from table_lines(_TITLES, list(_cells(runs, table)))


def title(table: Comparisons) -> str:
    """What a table is of."""
    margin = next(iter(table.rows.values())).margin
    return (
        f"{table.task}, {table.world_size} ranks, {table.num_seeds} seeds: {table.metric}, "
        f"margin {_number(margin, table.metric)}"
    )


def markdown(record: Record, runs: Runs, plot_name: str) -> str:
    """Returns the whole record for people."""
    settings = ", ".join(f"{name} {value}" for name, value in record.settings.items())
    parts = [
        f"# {record.benchmark}, {record.machine.date}",
        fenced([record.command]),
        f"{in_words(record.machine)}. {record.duration_s / 60:.1f} minutes. {settings}.",
        f"![Training losses]({plot_name})",
        "## Findings",
        fenced(list(finding_lines(record.findings))),
        "## Where training ends",
        HOW_TO_READ,
        fenced(list(comparison_lines(runs))[1:]),
    ]
    return "\n\n".join(parts) + "\n"


def curves_png(runs: Runs, heading: str) -> bytes:
    """Draws, for each task, training loss over steps, and each variant's distance from float32."""
    tasks = list(dict.fromkeys(cell.task for cell in runs))
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(2 * width, height * len(tasks) + 1), layout="constrained")
    grid = figure.subplots(len(tasks), 2, squeeze=False)
    for (absolute, relative), task in zip(grid, tasks, strict=True):
        curves = _curves({cell: results for cell, results in runs.items() if cell.task == task})
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
    figure.suptitle(heading, fontsize=10)
    float32_line = grid[0][0].get_legend_handles_labels()
    others = grid[0][1].get_legend_handles_labels()
    handles, labels = (
        [*first[:1], *rest] for first, rest in zip(float32_line, others, strict=True)
    )
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def _dress(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=9)
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel("nats", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def _curves(runs: Runs) -> dict[str, dict[int, list[float]]]:
    """Returns each variant's losses at each step, one of each run, in one order for all."""
    curves: dict[str, dict[int, list[float]]] = {}
    for results in runs.values():
        for result in results:
            points = curves.setdefault(result.variant, {})
            for step, loss in curve(result):
                points.setdefault(step, []).append(loss)
    return curves


def _distance(losses: Sequence[float], baseline: Sequence[float]) -> float:
    """Returns the root mean square over pairs."""
    return math.dist(losses, baseline) / math.sqrt(len(losses))


def _cells(runs: Runs, table: Comparisons) -> Iterator[tuple[str, ...]]:
    for variant, found in table.rows.items():
        mean = _pair(found.mean, found.deviation, table.metric)
        ratio = bytes_ratio(runs, table, variant)
        sent = _NONE if ratio is None else f"{ratio:.3f}"
        if variant == FLOAT32:
            yield (variant, mean, *[_NONE] * 4, "", "1")
            continue
        yield (
            variant,
            mean,
            _pair(found.difference, found.standard_error, table.metric),
            f"{found.distance / found.margin:.2f}" if found.margin else _NONE,
            _probability(found.p_equal),
            _probability(found.p_differs),
            str(found.verdict),
            sent,
        )


def _pair(value: float, error: float, metric: str) -> str:
    return f"{_number(value, metric)} +- {_number(error, metric)}"


def _number(value: float, metric: str) -> str:
    if math.isnan(value):
        return _NONE
    return f"{value:.2%}" if metric == ACCURACY else f"{value:.5f}"


def _probability(p: float) -> str:
    if math.isnan(p):
        return _NONE
    return f"{p:.3f}" if p >= 0.001 else "<0.001"
