"""Shows what the attention benchmark measured: lines as they come, Markdown, and a plot."""

from collections.abc import Iterator, Sequence

from benchmarks.attention_cases import DIRECTIONS, PLAIN, Case
from benchmarks.attention_sides import is_ours
from benchmarks.attention_tables import CEILING_TABLE, MEMORY_TABLE, TIME_TABLE, is_noisy
from benchmarks.machine import in_words
from benchmarks.plot import Panel
from benchmarks.record import Record, Row, fenced, finding_lines, table_line, table_lines

_FIRST_WIDTHS = (14, 8, 8)
_SIDE_WIDTH = 16
_NONE = "-"

HOW_TO_READ = (
    "ms, medians; in brackets how many times ours in the same framework. GFLOP/s and the share of "
    "the matrix-product ceiling are the best of ours."
)


def section_title(case: Case) -> str:
    """What the lines below have in common."""
    sizes = case.sizes
    mask = "causal" if case.causal else "full"
    heads = f"{sizes.num_heads} heads"
    if sizes.num_heads != sizes.num_kv_heads:
        heads += f" on {sizes.num_kv_heads}"
    return f"{case.feature}, {case.dtype}, {mask}, {heads} of {sizes.head_dim}"


def heading(sides: Sequence[str]) -> str:
    """The titles of the columns of `time_line`."""
    widths = (*_FIRST_WIDTHS, *(max(_SIDE_WIDTH, len(side)) for side in sides))
    return table_line(("length, pass", "GFLOP/s", "ceiling", *sides), widths)


def time_line(rows: Sequence[Row]) -> str:
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
    widths = (*_FIRST_WIDTHS, *(max(_SIDE_WIDTH, len(row.side)) for row in rows))
    first = f"{rows[0].case['seq_k']} {rows[0].step}"
    line = table_line((first, speed, share, *map(_time_cell, rows)), widths)
    busy = rows[0].metrics.get("others_cores", 0.0) if is_noisy(rows[0]) else 0.0
    return f"{line}  ! others took {busy:.1f} cores" if busy else line


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
    """Returns why sides have no result: a line for each side and reason, with where it was so."""
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
    return lines


def ratio_panels(rows: Sequence[Row]) -> list[Panel]:
    """One panel for each pass, feature, dtype and mask; a line for each peer and head_dim."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in sorted(_plotted(rows), key=lambda row: DIRECTIONS.index(row.step)):
        lines = panels.setdefault(f"{row.step}, {_kind(row)}", {})
        points = lines.setdefault(f"{row.side}, head_dim {row.case['head_dim']}", [])
        points.append((float(row.case["seq_k"]), row.metrics["times_ours"]))
    return [Panel(title, lines, level=1.0) for title, lines in panels.items()]


def plot_title(rows: Sequence[Row], chip: str) -> str:
    """Says what the panels show, and whether it means anything."""
    noisy = any(map(is_noisy, _plotted(rows)))
    return f"Peers' time over ours, {chip}" + (" (other processes were busy)" if noisy else "")


def panel_columns(rows: Sequence[Row]) -> int:
    """How many panels stand beside each other: one for each feature, dtype and mask."""
    return max(1, len({_kind(row) for row in _plotted(rows)}))


def _plotted(rows: Sequence[Row]) -> list[Row]:
    """The peers' rows of the plain cases measured in quiet; failing those, of what there is."""
    peers = [row for row in rows if "times_ours" in row.metrics and not is_ours(row.side)]
    plain = [row for row in peers if row.case["feature"] == PLAIN] or peers
    return [row for row in plain if not is_noisy(row)] or plain


def _kind(row: Row) -> str:
    mask = "causal" if row.case["causal"] else "full"
    feature = "" if row.case["feature"] == PLAIN else f"{row.case['feature']}, "
    return f"{feature}{row.case['dtype']}, {mask}"


def closing_lines(record: Record) -> Iterator[str]:
    """Yields what a run ends with: what is missing, and the findings."""
    yield from ("", "Not measured", *(missing_lines(record.rows) or ["nothing"]))
    yield from ("", "Findings", *finding_lines(record.findings), *noise_lines(record.rows))


def noise_lines(rows: Sequence[Row]) -> list[str]:
    """Says how much of the table is no measurement of anything, if some of it is not."""
    timed = [row for row in rows if row.table == TIME_TABLE and row.timing is not None]
    noisy = sum(map(is_noisy, timed))
    if not noisy:
        return []
    return [
        f"{noisy} of {len(timed)} times were measured while other processes were busy (marked !); "
        "the findings leave them out."
    ]


def markdown(record: Record, time_lines: Sequence[str], plot_name: str | None) -> str:
    """The whole record for a reader."""
    ceiling_lines = [ceiling_line(row) for row in record.rows if row.table == CEILING_TABLE]
    plot = [f"![Peers' time over ours]({plot_name})"] if plot_name else []
    parts = [
        f"# {record.benchmark}, {record.machine.date}",
        fenced([record.command]),
        f"{in_words(record.machine)}. {record.duration_s / 60:.1f} minutes.",
        *plot,
        "## Findings",
        fenced([*finding_lines(record.findings), *noise_lines(record.rows)]),
        "## Times",
        HOW_TO_READ,
        fenced([*ceiling_lines, *time_lines]),
        "## Peak memory beyond the inputs",
        fenced(list(memory_lines(record.rows))),
        "## Not measured",
        fenced(missing_lines(record.rows) or ["nothing"]),
    ]
    return "\n\n".join(parts) + "\n"


def _time_cell(row: Row) -> str:
    if row.timing is None:
        return _NONE
    ms = (
        f"{row.timing.median_ms:.3g}"
        if row.timing.median_ms < 1000
        else f"{row.timing.median_ms:.0f}"
    )
    ratio = row.metrics.get("times_ours")
    return ms if ratio is None else f"{ms} ({ratio:.2f})"
