"""Compares the runs of the bake-off and shows them: tables, Markdown, and a plot."""

import io
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from benchmarks.bakeoff_run import Result
from benchmarks.bakeoff_search import Point, Trial
from benchmarks.convergence_statistics import SIGNIFICANCE, Comparison, compare, deviation
from benchmarks.machine import in_words
from benchmarks.record import Finding, Record, Row, fenced, finding_lines, table_lines

BASELINE = "adamw"
EIGHT_BITS = ", 8 bits"

_PANEL_INCHES = (5.0, 3.6)
_DOTS_PER_INCH = 110
_POINTS_A_CURVE = 30

HOW_TO_READ = f"""\
Learning rate and decay of each optimizer are the best of its trials by the loss on one half of the
held-out examples, with a seed of its own; the runs here are other seeds, and their loss is that of
the other half, in nats, at the end of training, +- the deviation over seeds. Runs of a seed share
weights, batches and schedule. A difference is the mean over pairs of a seed, +- its standard error;
p is of the paired t-test against zero, by Holm's correction over the task's optimizers, and a
verdict needs p below {SIGNIFICANCE:g}. Rows in 8 bits have the settings of 32 bits, untuned, and
are compared with those; p equal is of two one-sided paired t-tests against their deviation over
seeds. Sophia's estimates of curvature, every tenth step, are not counted as steps."""


class TaskRuns(NamedTuple):
    """What was run of one task.

    Attributes:
      task: its name.
      num_steps: of each run.
      seeds: of the runs.
      trials: by optimizer, of the search.
      runs: by optimizer, and by its name with EIGHT_BITS, in the order of the seeds.
    """

    task: str
    num_steps: int
    seeds: list[int]
    trials: dict[str, list[Trial]]
    runs: dict[str, list[Result]]


def best(trials: Sequence[Trial]) -> Point:
    """Returns the point of the least loss."""
    return min(trials, key=lambda trial: trial.loss).point


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
    losses = {name: [run.test_loss for run in runs] for name, runs in found.runs.items()}
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
            whole = [run.test_loss for run in found.runs[name.removesuffix(EIGHT_BITS)]]
            compared[name] = compare([run.test_loss for run in runs], whole, deviation(whole))
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


def task_lines(found: TaskRuns) -> Iterator[str]:
    """Yields the tables of a task."""
    yield f"{found.task}: {found.num_steps} steps, {len(found.seeds)} seeds"
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
        runs, point, line = found.runs[name], best(trials), lines.get(name)
        rows.append(
            (
                name,
                f"{point.learning_rate:.2g}",
                f"{point.weight_decay:.2g}",
                str(len(trials)),
                _mean([run.test_loss for run in runs]),
                _difference(line.comparison) if line else "-",
                _probability(line.p) if line else "-",
                line.verdict if line else "",
                f"{statistics.fmean(run.test_accuracy for run in runs):.2%}",
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
                    _mean([run.test_loss for run in found.runs[name]]),
                    _difference(comparison),
                    _probability(comparison.p_equal),
                    _probability(comparison.p_differs),
                    str(comparison.verdict),
                    f"{found.runs[name][0].state_bytes:.2f} of "
                    f"{found.runs[name.removesuffix(EIGHT_BITS)][0].state_bytes:.2f}",
                )
                for name, comparison in eight.items()
            ],
        )
    clipped = [
        run.clipped_fraction
        for run in found.runs.get("sophia", [])
        if run.clipped_fraction is not None
    ]
    if clipped:
        yield f"sophia clipped {statistics.fmean(clipped):.0%} of the weights in its last steps"


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.4f} +- {deviation(values):.4f}"


def _difference(comparison: Comparison) -> str:
    return f"{comparison.difference:+.4f} +- {comparison.standard_error:.4f}"


def _probability(p: float) -> str:
    if math.isnan(p):
        return "-"
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def findings(all_runs: Sequence[TaskRuns]) -> tuple[Finding, ...]:
    """Returns each optimizer's distance from AdamW, and what 8 bits change, for information."""
    found = []
    for runs in all_runs:
        count = len(runs.seeds)
        for name, line in lines_of(runs).items():
            what = f"{runs.task}: {name}: test loss less {BASELINE}'s ({line.verdict})"
            found.append(_finding(what, line.comparison.difference, count))
        for name, comparison in eight_bit_lines(runs).items():
            what = f"{runs.task}: {name}: test loss less 32 bits' ({comparison.verdict})"
            found.append(_finding(what, comparison.difference, count))
    return tuple(found)


def _finding(name: str, value: float, cases: int) -> Finding:
    return Finding(name=name, value=value if math.isfinite(value) else None, cases=cases)


def rows(all_runs: Sequence[TaskRuns]) -> Iterator[Row]:
    """Yields all trials and all runs."""
    for found in all_runs:
        for name, trials in found.trials.items():
            for number, trial in enumerate(trials):
                yield Row(
                    table="trial",
                    case={"task": found.task, "steps": found.num_steps, "number": number}
                    | trial.point._asdict(),
                    step="training",
                    side=name,
                    metrics=_finite({"tuning_loss": trial.loss}),
                )
        for name, runs in found.runs.items():
            point = best(found.trials[name.removesuffix(EIGHT_BITS)])
            for seed, run in zip(found.seeds, runs, strict=True):
                metrics = run._asdict()
                losses = metrics.pop("train_losses")
                metrics |= {f"train_loss_to_step_{at}": loss for at, loss in _curve(losses)}
                yield Row(
                    table="run",
                    case={"task": found.task, "steps": found.num_steps, "seed": seed}
                    | point._asdict(),
                    step="training",
                    side=name,
                    metrics=_finite({k: v for k, v in metrics.items() if v is not None}),
                )


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    """Leaves out what JSON cannot hold: results of training that diverged."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _curve(losses: Sequence[float]) -> list[tuple[int, float]]:
    width = max(1, len(losses) // _POINTS_A_CURVE)
    return [
        (start + width, statistics.fmean(losses[start : start + width]))
        for start in range(0, len(losses) - width + 1, width)
    ]


def plot(all_runs: Sequence[TaskRuns], heading: str) -> bytes:
    """Draws for each task the training losses, and where each seed's run ends."""
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(2 * width, height * len(all_runs) + 0.8), layout="constrained")
    grid = figure.subplots(len(all_runs), 2, squeeze=False)
    for (curves, ends), found in zip(grid, all_runs, strict=True):
        for place, (name, runs) in enumerate(found.runs.items()):
            color = f"C{list(found.trials).index(name.removesuffix(EIGHT_BITS))}"
            in_8 = name.endswith(EIGHT_BITS)
            points: dict[int, list[float]] = {}
            for run in runs:
                for step, loss in _curve(run.train_losses):
                    points.setdefault(step, []).append(loss)
            means = [statistics.fmean(values) for values in points.values()]
            style = "--" if in_8 else "-"
            curves.plot(list(points), means, style, color=color, linewidth=1.1, label=name)
            losses = [run.test_loss for run in runs if math.isfinite(run.test_loss)]
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
    figure.suptitle(heading, fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def markdown(record: Record, all_runs: Sequence[TaskRuns], plot_name: str) -> str:
    """Returns the whole record for people."""
    tables = [line for found in all_runs for line in ("", *task_lines(found))]
    settings = ", ".join(f"{name} {value}" for name, value in record.settings.items())
    parts = [
        f"# {record.benchmark}, {record.machine.date}",
        fenced([record.command]),
        f"{in_words(record.machine)}. {record.duration_s / 60:.1f} minutes. {settings}.",
        f"![Losses]({plot_name})",
        "## Where training ends",
        HOW_TO_READ,
        fenced(tables[1:]),
        "## Findings",
        fenced(list(finding_lines(record.findings))),
    ]
    return "\n\n".join(parts) + "\n"
