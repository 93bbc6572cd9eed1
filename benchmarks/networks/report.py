"""Shows what the benchmark of networks measured: tables, aims, Markdown, and panels of a plot."""

from collections.abc import Iterator, Sequence

from benchmarks.harness.plot import panels, png
from benchmarks.harness.record import Record, Row
from benchmarks.harness.suite import Report
from benchmarks.harness.text import (
    fenced,
    fenced_tables,
    finding_lines,
    ran_with_settings,
    table_lines,
)
from benchmarks.networks.cases import LOSS_TABLE
from benchmarks.networks.findings import findings, groups

HOW_TO_READ = """\
A preset's network, weights, batches, loss and AdamW: ours as its trainer runs it, and written in
plain Flax with optax or in plain PyTorch with its fused AdamW. All measure loss and accuracy. Our
network trained as the plain one is tells its time from the trainer's; the plain one in DeepSpeed,
what DeepSpeed's engine takes. `loss` is the mean over the last 20 steps; `differs` the most that
the losses of a step differ by from ours. Then all take steps in turns, in one process: `ms` is the
median, then the quartiles; `/ ours` the same over ours."""

_PLOT_SHOWS = "Losses of ours and of plain networks"


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the table of one network in one framework, ours first."""
    yield f"{rows[0].case['network']} in {rows[0].case['framework']}"
    cells = [
        (
            row.side,
            f"{row.metrics['loss_at_the_end']:.4f}",
            f"{row.metrics['differs_at_most']:.0e}",
            f"{row.timing.median_ms:.2f}",
            f"{row.timing.low_ms:.2f} to {row.timing.high_ms:.2f}",
            f"{row.metrics['times_ours']:.2f}",
        )
        for row in rows
        if row.timing is not None
    ]
    yield from table_lines(("", "loss", "differs", "ms", "quartiles", "/ ours"), cells)


def _plot(record: Record) -> bytes:
    """A panel for each network, a line for each side in each framework."""
    drawn = panels(
        (
            str(row.case["network"]),
            f"{row.side}, {row.case['framework']}",
            float(row.case["number"]),
            row.metrics["loss"],
        )
        for row in record.rows
        if row.table == LOSS_TABLE
    )
    return png(drawn, title=_PLOT_SHOWS, x_label="step", y_label="loss", columns=len(drawn))


def _sections(record: Record) -> list[str]:
    return [
        "## Findings",
        fenced(finding_lines(record.findings)),
        "## Steps",
        HOW_TO_READ,
        fenced_tables(table([*group.values()]) for group in groups(record.rows)),
    ]


REPORT = Report(
    findings=findings,
    plot=_plot,
    plot_shows=_PLOT_SHOWS,
    sections=_sections,
    introduction=lambda record: [ran_with_settings(record)],
)
