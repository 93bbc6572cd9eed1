"""Shows what the compression benchmark measured: tables, Markdown, and a plot."""

from collections.abc import Iterator, Sequence

from benchmarks.compression import cases
from benchmarks.compression.findings import findings
from benchmarks.harness.machine import Machine
from benchmarks.harness.plot import Panel, panels, png
from benchmarks.harness.record import Record, Row, is_noisy
from benchmarks.harness.suite import Report
from benchmarks.harness.text import fenced, finding_lines, noise_lines, ran_on, table_lines

_NONE = "-"
_TIME_TITLES = (
    "",
    "ms",
    "quartiles",
    "/ ours",
    "sent MB",
    "/ float32",
    "counted",
    "Gbit/s",
)

HOW_TO_READ = """\
A step averages the gradients of 25 million float32 parameters, two transformer layers, in
DistributedDataParallel with its own buckets. They are ready all at once: nothing hides the
exchange. `ms` is the median over the steps, the slowest rank counts; `/ ours` the same over that
of `ours int8`. `sent MB` is what a rank's interface counted in a step, headers, handshakes and
acknowledgements included; `counted` what our own counter says. `Gbit/s` is what a ring that sends
float32 would need to be as fast. PowerSGD does one bucket after the other, as several at once fail
on gloo."""

HOW_ERRORS_READ = """\
vNMSE is the squared error over the squared averages, the mean over the steps after the third, all
with the same gradients; `of the mean`, that of the mean of those steps' results, which error
feedback makes smaller with every step. Whether a side reaches the same loss is what
//benchmarks:convergence measures."""


def setup_words(cores: int) -> str:
    """What the times depend on besides the links."""
    return (
        "Ranks are processes in network namespaces, joined by veth links (four ranks: by a bridge) "
        f"that tc's tbf shapes in both directions. All ranks and the kernel's network stack share "
        f"the machine's {cores} cores: over fast links that is what is measured, and the rate that "
        "TCP reached is given with each link."
    )


def link_lines(rows: Sequence[Row], machine: Machine) -> Iterator[str]:
    """Yields the table of one link, from its rows."""
    times = [row for row in rows if row.table == cases.TIME_TABLE]
    link = next(row for row in rows if row.table == cases.LINK_TABLE)
    reached = link.metrics["gbit_per_s"]
    yield (
        f"{link.case['world_size']} ranks, {link.case['gbit_per_s']:g} Gbit/s "
        f"(TCP reaches {reached:.2f} in both directions at once)"
    )
    yield from table_lines(_TIME_TITLES, [_time_cells(row) for row in times])
    if any(is_noisy(row, machine) for row in times):
        others = max(row.metrics["others_cores"] for row in times)
        yield f"! others took {others:.1f} cores: these times mean little"


def error_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the table of errors."""
    titles = ("", "ranks", "vNMSE", "of the mean", "steps", "all ranks the same bits")
    cells = [
        (
            row.side,
            str(row.case["world_size"]),
            f"{row.metrics['vnmse']:.2e}",
            f"{row.metrics['vnmse_of_mean']:.2e}",
            str(row.case["steps"]),
            "yes" if row.metrics["ranks_identical"] else "NO",
        )
        for row in rows
        if row.table == cases.ERROR_TABLE and row.side != cases.NOTHING
    ]
    yield from table_lines(titles, cells)


def kernel_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the table of kernels."""
    kernels = [row for row in rows if row.table == cases.KERNEL_TABLE]
    ours = {row.step: row for row in kernels if row.side == cases.OURS}
    copies = {row.step: row for row in kernels if row.side == cases.COPY}
    titles = ("100 MB of float32", "MB moved", "ms", "GB/s", "copy GB/s", "copy / ours")
    cells = [
        (
            name,
            f"{float(row.case['bytes']) / 1e6:.0f}",
            _ms(row),
            f"{row.metrics['gb_per_s']:.1f}",
            f"{copies[name].metrics['gb_per_s']:.1f}",
            f"{copies[name].metrics['times_ours']:.2f}",
        )
        for name, row in ours.items()
    ]
    yield from table_lines(titles, cells)


def links(rows: Sequence[Row]) -> list[list[Row]]:
    """Returns the rows of each link, in the order in which they were measured."""
    found: dict[tuple[object, object], list[Row]] = {}
    for row in rows:
        if row.table in (cases.LINK_TABLE, cases.TIME_TABLE):
            key = (row.case["world_size"], row.case["gbit_per_s"])
            found.setdefault(key, []).append(row)
    return list(found.values())


def link_panels(rows: Sequence[Row]) -> list[Panel]:
    """One panel for each number of ranks; a line for each side that exchanges something."""
    return panels(
        (
            f"{row.case['world_size']} ranks",
            row.side,
            float(row.case["gbit_per_s"]),
            row.timing.median_ms,
        )
        for row in rows
        if row.table == cases.TIME_TABLE and row.timing is not None and row.side != cases.NOTHING
    )


def _plot(record: Record) -> bytes:
    drawn = link_panels(record.rows)
    noisy = any(
        is_noisy(row, record.machine) for row in record.rows if row.table == cases.TIME_TABLE
    )
    title = f"All-reduce of 100 MB of gradients, {record.machine.cores} cores"
    return png(
        drawn,
        title=title + ("\n(other processes were busy)" if noisy else ""),
        x_label="Gbit/s of the links",
        y_label="ms",
        columns=len(drawn),
    )


def link_noise_lines(record: Record) -> Iterator[str]:
    """Says how many of the links are no measurement of anything, if some are not."""
    found = links(record.rows)
    noisy = sum(any(is_noisy(row, record.machine) for row in link) for link in found)
    yield from noise_lines(noisy, len(found), "links", "their times")


def _finding_lines(record: Record) -> Iterator[str]:
    yield from finding_lines(record.findings)
    yield from link_noise_lines(record)


def _missing_lines() -> list[str]:
    """Which of torch's hooks have no times, and why."""
    return [f"{side}: {reason}" for side, reason in cases.MISSING.items()]


def _closing(record: Record) -> Iterator[str]:
    yield from ("", HOW_ERRORS_READ, "", *error_lines(record.rows))
    yield from ("", "Not measured", *_missing_lines())
    yield from ("", "Findings", *_finding_lines(record))


def _introduction(record: Record) -> list[str]:
    return [ran_on(record), setup_words(record.machine.cores)]


def _sections(record: Record) -> list[str]:
    return [
        "## Findings",
        fenced(_finding_lines(record)),
        "## Times",
        HOW_TO_READ,
        *(fenced(link_lines(link, record.machine)) for link in links(record.rows)),
        "## Errors",
        HOW_ERRORS_READ,
        fenced(error_lines(record.rows)),
        "## Kernels",
        "Beside torch's `copy_` on all cores of as many bytes, read and written.",
        fenced(kernel_lines(record.rows)),
        "## Not measured",
        fenced(_missing_lines()),
    ]


def _time_cells(row: Row) -> tuple[str, ...]:
    timing = row.timing
    assert timing is not None
    return (
        row.side,
        _ms(row),
        f"{timing.low_ms:.0f}..{timing.high_ms:.0f}",
        _cell(row, "times_ours", ".2f"),
        _cell(row, "sent_mb", ".2f"),
        _cell(row, "sent_of_float32", ".3f"),
        _cell(row, "wire_mb", ".2f"),
        _cell(row, "effective_gbit_per_s", ".2f"),
    )


def _cell(row: Row, metric: str, form: str) -> str:
    value = row.metrics.get(metric)
    return _NONE if value is None else format(value, form)


def _ms(row: Row) -> str:
    assert row.timing is not None
    ms = row.timing.median_ms
    return f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


REPORT = Report(
    findings=findings,
    closing=_closing,
    plot=_plot,
    plot_shows="Time against the rate of the links",
    sections=_sections,
    introduction=_introduction,
)
