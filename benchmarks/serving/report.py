"""Shows what the benchmark of serving measured: tables, Markdown, and a plot."""

from collections.abc import Iterator, Sequence

from benchmarks.harness.machine import Machine
from benchmarks.harness.plot import Panel, panels, png
from benchmarks.harness.record import Record, Row, is_noisy
from benchmarks.harness.suite import Report
from benchmarks.harness.text import (
    fenced,
    fenced_tables,
    finding_lines,
    noise_lines,
    ran_with_settings,
    table_lines,
)
from benchmarks.serving import cases
from benchmarks.serving.findings import better, findings, loads
from benchmarks.serving.job import MAX_BATCH_SIZE

_NONE = "-"

HOW_TO_READ = f"""\
Every server computes the same network of ours in PyTorch, by the same function, on one thread, in
one process or in one beside; before anything is timed, the answers to all examples are compared.
The floor is a bare grpc.aio server that calls the model in its event loop and checks nothing. The
sides take turns, every round beginning with another one; servers that are not asked are paused,
but for ours and Ray Serve. One client process asks all, with requests that were made before: gRPC
through one channel, HTTP through as many connections as callers. A request is one example, raw
where the protocol can: Ray Serve's through HTTP is the bytes alone, LitServe's are in base64, and
MLServer's REST is all in JSON. `requests/s` is the median over the turns, then the quartiles; a
percentile of latency is the median of the turns'. `CPU ms` is what all processes of the server took
of the processors for a request; `client`, what the client took. Peers run with batches of up to
{MAX_BATCH_SIZE} and without; of the two, what counts is the better one. Their access logs are off,
and so are MLServer's metrics; uvloop is on, and Ray Serve is set to THROUGHPUT_OPTIMIZED with its
proxies kept. Ours is as it comes, one log line and all metrics a request. Its cache is off but in
the rows that say so, where it has all answers, or none and no two requests are alike."""

HOW_RATES_READ = """\
Requests are due at times of a Poisson process, the same ones for each side, whether or not earlier
ones were answered; a latency is from when a request was due. `failed` were refused, or not answered
in the 10 s after the last was due."""

HOW_TENSORS_READ = """\
The network adds the input up, weighted: MiB of float32 in, 4 bytes out, and next to no work
between. MLServer takes tensors as lists of Python's numbers, in both protocols. Ours refuses so
much JSON unless an option allows it, as here."""


def table_of(rows: Sequence[Row], machine: Machine) -> Iterator[str]:
    """Yields the table of one load, from its rows."""
    case, table = rows[0].case, rows[0].table
    model = case["model"] if table != cases.TENSOR_TABLE else f"{case['mib']:g} MiB"
    load = f"{case['rate']:g} requests/s" if "rate" in case else f"{case['callers']} callers"
    yield f"{model}, {load}"
    ours = next((row for row in rows if row.side == cases.OURS_GRPC), None)
    titles = ("", "requests/s", "quartiles", "/ ours", "p50 ms", "p90", "p99", "CPU ms", "client")
    yield from table_lines((*titles, "failed"), [_cells(row, ours, machine) for row in rows])


def _cells(row: Row, ours: Row | None, machine: Machine) -> tuple[str, ...]:
    found = row.metrics
    name = f"{row.side}{' !' if is_noisy(row, machine) else ''}"
    failed = f"{found['failures']:.0f}" if found["failures"] else ""
    if "requests_per_s" not in found:
        return (name, *[_NONE] * 8, failed)
    per_s = found["requests_per_s"]
    of_ours = ours.metrics.get("requests_per_s") if ours is not None else None
    return (
        name,
        f"{per_s:.0f}",
        f"{found['requests_per_s_low']:.0f}..{found['requests_per_s_high']:.0f}",
        f"{per_s / of_ours:.2f}" if of_ours else _NONE,
        *(f"{found[f'p{percent}_ms']:.2f}" for percent in (50, 90, 99)),
        f"{found['server_cpu_ms']:.2f}",
        f"{found['client_cpu_ms']:.2f}",
        failed,
    )


def server_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the table of what servers take when nobody asks."""
    cells = [
        (
            row.side,
            str(row.case["model"]),
            f"{row.metrics['ready_s']:.1f}",
            f"{row.metrics['idle_cores']:.2f}",
            f"{row.metrics['resident_mib']:.0f}",
        )
        for row in rows
        if row.table == cases.SERVER_TABLE
    ]
    titles = ("all processes", "model", "ready after, s", "cores at rest", "resident MiB")
    yield from table_lines(titles, cells)


def throughput_panels(rows: Sequence[Row]) -> list[Panel]:
    """One panel for each model; a line for each side, with batches or without as it is better."""
    return panels(
        (str(load.case["model"]), side, float(load.case["callers"]), per_s)
        for load in loads(rows)
        if load.table == cases.CLOSED_TABLE
        for side in load.rows
        if (per_s := better(load, side, "requests_per_s")) and not side.endswith(cases.BATCHED)
    )


def _plot(record: Record) -> bytes | None:
    drawn = throughput_panels(record.rows)
    if not drawn:
        return None
    return png(
        drawn,
        title=f"Requests answered, {record.machine.cores} cores of {record.machine.cpu}",
        x_label="callers",
        y_label="requests/s",
        columns=len(drawn),
    )


def _finding_lines(record: Record) -> Iterator[str]:
    yield from finding_lines(record.findings)
    rows = [row for row in record.rows if row.table != cases.SERVER_TABLE]
    noisy = sum(is_noisy(row, record.machine) for row in rows)
    yield from noise_lines(noisy, len(rows), "rows", "them")


def _closing(record: Record) -> Iterator[str]:
    yield from ("", *server_lines(record.rows), "", "Findings", *_finding_lines(record))


def _tables(record: Record, table: str) -> str:
    return fenced_tables(
        table_of([*load.rows.values()], record.machine)
        for load in loads(record.rows)
        if load.table == table
    )


def _sections(record: Record) -> list[str]:
    return [
        "## Findings",
        fenced(_finding_lines(record)),
        "## Callers who wait for their answers",
        HOW_TO_READ,
        _tables(record, cases.CLOSED_TABLE),
        "## Fixed rates",
        HOW_RATES_READ,
        _tables(record, cases.OPEN_TABLE),
        "## Large tensors",
        HOW_TENSORS_READ,
        _tables(record, cases.TENSOR_TABLE),
        "## Servers at rest",
        fenced(server_lines(record.rows)),
    ]


REPORT = Report(
    findings=findings,
    closing=_closing,
    plot=_plot,
    plot_shows="Requests answered in a second against the number of callers",
    sections=_sections,
    introduction=lambda record: [ran_with_settings(record)],
)
