"""Shows what the attention benchmark measured: lines as they come, Markdown, and a plot."""

from collections.abc import Iterator, Sequence

from benchmarks.attention.cases import CEILING_TABLE, DIRECTIONS, MEMORY_TABLE, PLAIN, TIME_TABLE
from benchmarks.attention.findings import findings
from benchmarks.attention.sides import is_ours
from benchmarks.harness.machine import Machine
from benchmarks.harness.plot import panels, png
from benchmarks.harness.record import Record, Row, is_noisy
from benchmarks.harness.suite import Report
from benchmarks.harness.text import fenced, finding_lines, noise_lines, table_line, table_lines

_EXIT_OURS_MISSING = 1

_PLOT_SHOWS = "Peers' time over ours"
_FIRST_WIDTHS = (14, 8, 8)
_SIDE_WIDTH = 16
_NONE = "-"

HOW_TO_READ = (
    "ms, medians; in brackets how many times ours in the same framework. GFLOP/s and the share of "
    "the matrix-product ceiling are the best of ours."
)


def time_lines(rows: Sequence[Row], machine: Machine) -> Iterator[str]:
    """Yields a table for each feature, dtype and mask: a line a pass, a column a side."""
    title = ""
    passes: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.table == TIME_TABLE:
            passes.setdefault((*row.case.values(), row.step), []).append(row)
    for of_pass in passes.values():
        if title != (title := _section_title(of_pass[0])):
            yield from ("", title, _table_line(of_pass, "length, pass", "GFLOP/s", "ceiling"))
        yield _time_line(of_pass, machine)


def _section_title(row: Row) -> str:
    case = row.case
    heads = f"{case['num_heads']} heads"
    if case["num_heads"] != case["num_kv_heads"]:
        heads += f" on {case['num_kv_heads']}"
    return f"{case['feature']}, {case['dtype']}, {_mask(row)}, {heads} of {case['head_dim']}"


def _time_line(rows: Sequence[Row], machine: Machine) -> str:
    """One line for the rows of all sides of one pass of one case."""
    best = max(
        (row for row in rows if is_ours(row.side) and row.timing is not None),
        key=lambda row: row.metrics["gflop_per_s"],
        default=None,
    )
    speed, share = _NONE, _NONE
    if best is not None:
        speed = f"{best.metrics['gflop_per_s']:.0f}"
        if "fraction_of_ceiling" in best.metrics:
            share = f"{best.metrics['fraction_of_ceiling']:.0%}"
    first = f"{rows[0].case['seq_k']} {rows[0].step}"
    line = _table_line(rows, first, speed, share, cells=[*map(_time_cell, rows)])
    if is_noisy(rows[0], machine):
        line += f"  ! others took {rows[0].metrics['others_cores']:.1f} cores"
    return line


def _table_line(rows: Sequence[Row], *first: str, cells: Sequence[str] | None = None) -> str:
    """A line with a cell for each side; the sides' names are the heading."""
    sides = [row.side for row in rows]
    widths = (*_FIRST_WIDTHS, *(max(_SIDE_WIDTH, len(side)) for side in sides))
    return table_line((*first, *(sides if cells is None else cells)), widths)


def ceiling_line(row: Row) -> str:
    """One line for one ceiling."""
    size = row.case["size"]
    speed = row.metrics["gflop_per_s"]
    dtype = row.case["dtype"]
    return f"ceiling: {dtype} {size}x{size} matrix product, {row.side}: {speed:.0f} GFLOP/s"


def memory_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yields a table: a line for each case and pass, a column for each side."""
    rows = [row for row in rows if row.table == MEMORY_TABLE]
    sides = list(dict.fromkeys(row.side for row in rows))
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = (str(row.case["dtype"]), str(row.case["seq_k"]), row.step)
        peak = row.metrics.get("peak_mib")
        cells.setdefault(key, {})[row.side] = _NONE if peak is None else f"{peak:.1f}"
    lines = [
        (" ".join(key), *(found.get(side, _NONE) for side in sides)) for key, found in cells.items()
    ]
    if lines:
        yield from table_lines(("peak MiB beyond the inputs", *sides), lines)


def missing_lines(rows: Sequence[Row]) -> list[str]:
    """Returns why sides have no result: a line for each side and reason, with where it was so.

    Where all have one, the line says that nothing is missing.
    """
    places: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.missing is not None:
            case = row.case
            place = f"{case['feature']} {case['dtype']} {case['seq_k']} {row.step}"
            places.setdefault((row.side, row.missing), []).append(place)
    lines = []
    for (side, reason), where in places.items():
        more = f" and {len(where) - 1} more" if len(where) > 1 else ""
        lines.append(f"{side}: {reason} ({where[0]}{more})")
    return lines or ["nothing"]


def _time_cell(row: Row) -> str:
    if row.timing is None:
        return _NONE
    ms = row.timing.median_ms
    words = f"{ms:.3g}" if ms < 1000 else f"{ms:.0f}"
    ratio = row.metrics.get("times_ours")
    return words if ratio is None else f"{words} ({ratio:.2f})"


def _plot(record: Record) -> bytes | None:
    """A panel for each pass, feature, dtype and mask; a line for each peer and head_dim."""
    rows = _plotted(record)
    if not rows:
        return None
    drawn = panels(
        (
            (
                f"{row.step}, {_kind(row)}",
                f"{row.side}, head_dim {row.case['head_dim']}",
                float(row.case["seq_k"]),
                row.metrics["times_ours"],
            )
            for row in sorted(rows, key=lambda row: DIRECTIONS.index(row.step))
        ),
        level=1.0,
    )
    machine = record.machine
    chip = machine.gpu[0] if record.settings["device"] == "cuda" else machine.cpu
    noisy = any(is_noisy(row, machine) for row in rows)
    return png(
        drawn,
        title=f"{_PLOT_SHOWS}, {chip}" + (" (other processes were busy)" if noisy else ""),
        x_label="sequence length",
        y_label="times ours",
        columns=len({_kind(row) for row in rows}),
    )


def _plotted(record: Record) -> list[Row]:
    """The peers' rows of the plain cases measured in quiet; failing those, of what there is."""
    peers = [row for row in record.rows if "times_ours" in row.metrics and not is_ours(row.side)]
    plain = [row for row in peers if row.case["feature"] == PLAIN] or peers
    return [row for row in plain if not is_noisy(row, record.machine)] or plain


def _kind(row: Row) -> str:
    feature = "" if row.case["feature"] == PLAIN else f"{row.case['feature']}, "
    return f"{feature}{row.case['dtype']}, {_mask(row)}"


def _mask(row: Row) -> str:
    return "causal" if row.case["causal"] else "full"


def _finding_lines(record: Record) -> Iterator[str]:
    """Yields the findings, and how much of the table is no measurement of anything."""
    yield from finding_lines(record.findings)
    timed = [row for row in record.rows if row.table == TIME_TABLE and row.timing is not None]
    noisy = sum(is_noisy(row, record.machine) for row in timed)
    yield from noise_lines(noisy, len(timed), "times", "them")


def _closing(record: Record) -> Iterator[str]:
    yield from ("", "Not measured", *missing_lines(record.rows))
    yield from ("", "Findings", *_finding_lines(record))


def _sections(record: Record) -> list[str]:
    ceilings = [ceiling_line(row) for row in record.rows if row.table == CEILING_TABLE]
    return [
        "## Findings",
        fenced(_finding_lines(record)),
        "## Times",
        HOW_TO_READ,
        fenced([*ceilings, *time_lines(record.rows, record.machine)]),
        "## Peak memory beyond the inputs",
        fenced(memory_lines(record.rows)),
        "## Not measured",
        fenced(missing_lines(record.rows)),
    ]


def _status(record: Record) -> int:
    missed = any(is_ours(row.side) and row.missing is not None for row in record.rows)
    return _EXIT_OURS_MISSING if missed else 0


REPORT = Report(
    findings=findings,
    closing=_closing,
    plot=_plot,
    plot_shows=_PLOT_SHOWS,
    sections=_sections,
    status=_status,
)
