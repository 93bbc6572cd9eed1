"""Shows what the compression benchmark measured: tables, Markdown, and a plot."""

from collections.abc import Iterator, Sequence

from benchmarks.compression_kernels import COPY, KERNEL_TABLE
from benchmarks.compression_run import ERROR_TABLE, LINK_TABLE, TIME_TABLE, is_noisy
from benchmarks.compression_sides import MISSING, NOTHING, OURS
from benchmarks.machine import in_words
from benchmarks.plot import Panel
from benchmarks.record import Record, Row, fenced, finding_lines, table_lines

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


def link_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the table of one link, from its rows."""
    times = [row for row in rows if row.table == TIME_TABLE]
    link = next(row for row in rows if row.table == LINK_TABLE)
    reached = link.metrics["gbit_per_s"]
    yield (
        f"{link.case['world_size']} ranks, {link.case['gbit_per_s']:g} Gbit/s "
        f"(TCP reaches {reached:.2f} in both directions at once)"
    )
    yield from table_lines(_TIME_TITLES, [_time_cells(row) for row in times])
    if any(map(is_noisy, times)):
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
        if row.table == ERROR_TABLE and row.side != NOTHING
    ]
    yield from table_lines(titles, cells)


def kernel_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the table of kernels."""
    kernels = [row for row in rows if row.table == KERNEL_TABLE]
    ours = {row.step: row for row in kernels if row.side == OURS}
    copies = {row.step: row for row in kernels if row.side == COPY}
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


def missing_lines() -> list[str]:
    """Returns which of torch's hooks have no times, and why."""
    return [f"{side}: {reason}" for side, reason in MISSING.items()]


def links(rows: Sequence[Row]) -> list[list[Row]]:
    """Returns the rows of each link, in the order in which they were measured."""
    found: dict[tuple[object, object], list[Row]] = {}
    for row in rows:
        if row.table in (LINK_TABLE, TIME_TABLE):
            key = (row.case["world_size"], row.case["gbit_per_s"])
            found.setdefault(key, []).append(row)
    return list(found.values())


def panels(rows: Sequence[Row]) -> list[Panel]:
    """One panel for each number of ranks; a line for each side that exchanges something."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        if row.table == TIME_TABLE and row.timing is not None and row.side != NOTHING:
            lines = found.setdefault(f"{row.case['world_size']} ranks", {})
            point = (float(row.case["gbit_per_s"]), row.timing.median_ms)
            lines.setdefault(row.side, []).append(point)
    return [Panel(title, lines) for title, lines in found.items()]


def plot_title(record: Record) -> str:
    """Says what the panels show, and whether it means anything."""
    noisy = any(is_noisy(row) for row in record.rows if row.table == TIME_TABLE)
    title = f"All-reduce of 100 MB of gradients, {record.machine.cores} cores"
    return title + ("\n(other processes were busy)" if noisy else "")


def noise_lines(rows: Sequence[Row]) -> list[str]:
    """Says how many of the links are no measurement of anything, if some are not."""
    found = links(rows)
    noisy = sum(any(map(is_noisy, link)) for link in found)
    if not noisy:
        return []
    return [
        f"{noisy} of {len(found)} links were measured while other processes were busy (marked !); "
        "the findings leave their times out."
    ]


def markdown(record: Record, plot_name: str) -> str:
    """The whole record for a reader."""
    tables = [fenced(list(link_lines(link))) for link in links(record.rows)]
    parts = [
        f"# {record.benchmark}, {record.machine.date}",
        fenced([record.command]),
        f"{in_words(record.machine)}. {record.duration_s / 60:.1f} minutes.",
        setup_words(record.machine.cores),
        f"![Time against the rate of the links]({plot_name})",
        "## Findings",
        fenced([*finding_lines(record.findings), *noise_lines(record.rows)]),
        "## Times",
        HOW_TO_READ,
        *tables,
        "## Errors",
        HOW_ERRORS_READ,
        fenced(list(error_lines(record.rows))),
        "## Kernels",
        "Beside torch's `copy_` on all cores of as many bytes, read and written.",
        fenced(list(kernel_lines(record.rows))),
        "## Not measured",
        fenced(missing_lines()),
    ]
    return "\n\n".join(parts) + "\n"


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
