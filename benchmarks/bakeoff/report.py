"""Shows what the bake-off found: tables, Markdown, and a plot."""

import math
import statistics
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from benchmarks.bakeoff.cases import BASELINE, EIGHT_BITS
from benchmarks.bakeoff.findings import eight_bit_lines, findings, lines_of
from benchmarks.bakeoff.results import TaskRuns, best, final_loss, runs_of
from benchmarks.harness.plot import figure_png
from benchmarks.harness.record import Record
from benchmarks.harness.suite import Report
from benchmarks.harness.text import fenced, finding_lines, ran_with_settings, table_lines
from benchmarks.tasks.comparison import SIGNIFICANCE, Comparison, deviation, probability_in_words
from benchmarks.tasks.curves import read_curve

_PANEL_INCHES = (5.0, 3.6)

HOW_TO_READ = f"""\
Learning rate and decay of each optimizer are the best of its trials by the loss on one half of the
held-out examples, with a seed of its own; the runs here are other seeds, and their loss is that of
the other half, in nats, at the end of training, +- the deviation over seeds. Runs of a seed share
weights, batches and schedule. A difference is the mean over pairs of a seed, +- its standard error;
p is of the paired t-test against zero, by Holm's correction over the task's optimizers, and a
verdict needs p below {SIGNIFICANCE:g}. Rows in 8 bits have the settings of 32 bits, untuned, and
are compared with those; p equal is of two one-sided paired t-tests against their deviation over
seeds. Sophia's estimates of curvature, every tenth step, are not counted as steps."""


def task_lines(found: TaskRuns) -> Iterator[str]:
    """Yields the tables of a task."""
    num_seeds = max(map(len, found.runs.values()))
    yield f"{found.task}: {found.num_steps} steps, {num_seeds} seeds"
    lines = lines_of(found)
    titles = (
        "",
        "rate",
        "decay",
        "trials",
        "test loss",
        f"less {BASELINE}'s",
        "p",
        "",
        "accuracy",
    )
    rows = []
    for name, trials in found.trials.items():
        runs, point, line = found.runs[name], best(trials).point, lines.get(name)
        rows.append(
            (
                name,
                f"{point.learning_rate:.2g}",
                f"{point.weight_decay:.2g}",
                str(len(trials)),
                _mean([*map(final_loss, runs)]),
                _difference(line.comparison) if line else "-",
                probability_in_words(line.p) if line else "-",
                line.verdict if line else "",
                f"{statistics.fmean(run.metrics['test_accuracy'] for run in runs):.2%}",
            )
        )
    yield from table_lines(titles, rows)
    eight = eight_bit_lines(found)
    if eight:
        yield ""
        yield from table_lines(
            ("", "test loss", "less 32 bits'", "p equal", "p differs", "", "state bytes"),
            [
                (
                    name,
                    _mean([*map(final_loss, found.runs[name])]),
                    _difference(comparison),
                    probability_in_words(comparison.p_equal),
                    probability_in_words(comparison.p_differs),
                    str(comparison.verdict),
                    f"{_state_bytes(found, name):.2f} of "
                    f"{_state_bytes(found, name.removesuffix(EIGHT_BITS)):.2f}",
                )
                for name, comparison in eight.items()
            ],
        )
    clipped = [
        run.metrics["clipped_fraction"]
        for run in found.runs.get("sophia", [])
        if "clipped_fraction" in run.metrics
    ]
    if clipped:
        yield f"sophia clipped {statistics.fmean(clipped):.0%} of the weights in its last steps"


def _state_bytes(found: TaskRuns, name: str) -> float:
    return found.runs[name][0].metrics["state_bytes"]


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.4f} +- {deviation(values):.4f}"


def _difference(comparison: Comparison) -> str:
    return f"{comparison.difference:+.4f} +- {comparison.standard_error:.4f}"


def _plot(record: Record) -> bytes:
    """Draws for each task the training losses, and where each seed's run ends."""
    all_runs = runs_of(record.rows)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(2 * width, height * len(all_runs) + 0.8), layout="constrained")
    grid = figure.subplots(len(all_runs), 2, squeeze=False)
    for (curves, ends), found in zip(grid, all_runs, strict=True):
        for place, (name, runs) in enumerate(found.runs.items()):
            color = f"C{list(found.trials).index(name.removesuffix(EIGHT_BITS))}"
            in_8 = name.endswith(EIGHT_BITS)
            points: dict[int, list[float]] = {}
            for run in runs:
                for step, loss in read_curve(run.metrics).items():
                    points.setdefault(step, []).append(loss)
            means = [statistics.fmean(values) for values in points.values()]
            style = "--" if in_8 else "-"
            curves.plot(list(points), means, style, color=color, linewidth=1.1, label=name)
            losses = [loss for loss in map(final_loss, runs) if math.isfinite(loss)]
            marker = "x" if in_8 else "o"
            ends.plot([place] * len(losses), losses, marker, color=color, markersize=4)
            if losses:
                ends.plot(place, statistics.fmean(losses), "_", color="black", markersize=14)
        ends.set_xticks(range(len(found.runs)), list(found.runs), rotation=40, ha="right")
        for axes, text in ((curves, "training loss"), (ends, "test loss of each seed")):
            axes.set_title(f"{found.task}: {text}", fontsize=9)
            axes.tick_params(labelsize=7)
            axes.set_ylabel("nats", fontsize=8)
            axes.grid(alpha=0.3)
        curves.set_xlabel("step", fontsize=8)
        curves.set_yscale("log")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=7)
    figure.suptitle("Tuned optimizers, means over seeds", fontsize=10)
    return figure_png(figure)


def _sections(record: Record) -> list[str]:
    tables = [line for found in runs_of(record.rows) for line in ("", *task_lines(found))]
    return [
        "## Where training ends",
        HOW_TO_READ,
        fenced(tables[1:]),
        "## Findings",
        fenced(finding_lines(record.findings)),
    ]


REPORT = Report(
    findings=findings,
    closing=lambda record: (),  # each task's tables have been printed
    plot=_plot,
    plot_shows="Losses",
    sections=_sections,
    introduction=lambda record: [ran_with_settings(record)],
)
