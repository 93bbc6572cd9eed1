"""Shows what the benchmark of memory measured: tables, aims, Markdown, and panels of a plot."""

from collections.abc import Iterator, Sequence

from benchmarks.harness.plot import panels, png
from benchmarks.harness.record import Record, Row
from benchmarks.harness.suite import Report
from benchmarks.harness.text import fenced, fenced_tables, finding_lines, table_lines
from benchmarks.memory.cases import INPUT_BYTES
from benchmarks.memory.findings import findings, groups, growth

HOW_TO_READ = """\
One step of training, there and back, float32: the most memory at once, in MiB, by number of blocks,
without weights, their gradients and the batch. In PyTorch it is what the allocator gave out, in JAX
what XLA has planned for temporary arrays. `a block more` is how much each block adds, from the
fewest to the most, in times the bytes of a block's input."""

_PLOT_SHOWS = "Peak memory of a step of training"


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the table of one network in one framework, a line for each way."""
    case = rows[0].case
    yield f"{case['network']} in {case['framework']}"
    depths = sorted({int(row.case["blocks"]) for row in rows})
    peaks = {(row.side, int(row.case["blocks"])): row.metrics["peak_bytes"] for row in rows}
    cells = []
    for side in dict.fromkeys(row.side for row in rows):
        grown = growth(rows, side)
        more = "" if grown is None else f"{grown / INPUT_BYTES[str(case['network'])]:.2f}"
        cells.append((side, *(f"{peaks[side, depth] / 2**20:.1f}" for depth in depths), more))
    yield from table_lines(("", *map(str, depths), "a block more"), cells)


def _plot(record: Record) -> bytes:
    """A panel for each network and framework, a line for each way."""
    drawn = panels(
        (
            f"{row.case['network']}, {row.case['framework']}",
            row.side,
            float(row.case["blocks"]),
            row.metrics["peak_bytes"] / 2**20,
        )
        for row in record.rows
    )
    return png(drawn, title=_PLOT_SHOWS, x_label="blocks", y_label="MiB", columns=2)


def _sections(record: Record) -> list[str]:
    return [
        "## Findings",
        "How much one block more adds, as a share of what it adds to ordinary back-propagation.",
        fenced(finding_lines(record.findings)),
        "## Memory",
        HOW_TO_READ,
        fenced_tables(map(table, groups(record.rows))),
    ]


REPORT = Report(
    findings=findings,
    plot=_plot,
    plot_shows=_PLOT_SHOWS,
    sections=_sections,
)
