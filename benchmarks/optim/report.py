"""Shows what the benchmark of optimizers measured: tables, aims, Markdown, and panels of a plot."""

from collections.abc import Iterator, Sequence

from benchmarks.harness.plot import panels, png
from benchmarks.harness.record import Record, Row
from benchmarks.harness.suite import Report
from benchmarks.harness.text import fenced, finding_lines, table_lines
from benchmarks.optim.cases import MISSING
from benchmarks.optim.findings import findings, groups

HOW_TO_READ = """\
A step updates all weights of a transformer, float32, from gradients that are there; the sides take
turns in one process. `ms` is the median, then the quartiles; `/ ours` the same over ours in 32 bits
of the same framework. `bytes` are those of state for each weight. `differs` is how far the weights
are from ours after one step, in learning rates. JAX's arrays are donated and the weights are
updated too, by optax.apply_updates or in the fused step. optax's adan has another weight of the
gradients' difference, which the first step does not show."""

_PLOT_SHOWS = "Time of a step"


def group_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the table of one algorithm over one model in one framework, ours first."""
    case = rows[0].case
    millions = float(case["weights"]) / 1e6
    yield (
        f"{case['algorithm']} in {case['framework']}, {millions:.1f} million weights "
        f"in {case['tensors']} tensors"
    )
    titles = ("", "ms", "quartiles", "/ ours", "bytes", "differs")
    cells = [
        (
            row.side,
            f"{row.timing.median_ms:.3f}",
            f"{row.timing.low_ms:.3f} to {row.timing.high_ms:.3f}",
            f"{row.metrics['times_ours']:.2f}",
            f"{row.metrics['state_bytes_per_weight']:.2f}",
            f"{row.metrics['differs_in_rates']:.1e}",
        )
        for row in rows
        if row.timing is not None
    ]
    yield from table_lines(titles, cells)


def _closing(record: Record) -> Iterator[str]:
    yield from ("", "Findings, the least over the models", *finding_lines(record.findings))


def _plot(record: Record) -> bytes:
    """A panel for each algorithm and framework, a line for each side."""
    drawn = panels(
        (
            f"{row.case['algorithm']}, {row.case['framework']}",
            row.side,
            float(row.case["weights"]) / 1e6,
            row.timing.median_ms,
        )
        for row in record.rows
        if row.timing is not None
    )
    return png(
        drawn,
        title=f"{_PLOT_SHOWS}, {record.machine.cores} cores of {record.machine.cpu}",
        x_label="million weights",
        y_label="ms",
        columns=min(len(drawn), 2),
    )


def _sections(record: Record) -> list[str]:
    tables = [line for group in groups(record.rows) for line in ("", *group_lines(group))]
    return [
        "## Findings",
        "The least ratio over the models.",
        fenced(finding_lines(record.findings)),
        "## Steps",
        HOW_TO_READ,
        fenced(tables[1:]),
        "## Not measured",
        "\n".join(f"- {what}: {why}" for what, why in MISSING.items()),
    ]


REPORT = Report(
    findings=findings,
    closing=_closing,
    plot=_plot,
    plot_shows=_PLOT_SHOWS,
    sections=_sections,
)
