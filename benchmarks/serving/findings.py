"""Sums the benchmark of serving up: its aims, with what was reached."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.harness.machine import Machine
from benchmarks.harness.record import Finding, Record, Row, Scalar, at_least, at_most, is_noisy
from benchmarks.serving import cases

# At which the aims are that say no number of callers.
_AIM_CALLERS = 32

_RAY_AIM = 5.0
_AHEAD_AIM = 1.0
_FLOOR_AIM = 1.5


class Load(NamedTuple):
    """The rows of all sides under one load.

    Attributes:
        table: Of the rows.
        case: Of the rows.
        rows: By side.
    """

    table: str
    case: Mapping[str, Scalar]
    rows: Mapping[str, Row]


def loads(rows: Sequence[Row]) -> list[Load]:
    """Returns the loads in the order in which they were measured."""
    found: dict[tuple[str, tuple[tuple[str, Scalar], ...]], dict[str, Row]] = {}
    for row in rows:
        if row.table != cases.SERVER_TABLE:
            found.setdefault((row.table, tuple(row.case.items())), {})[row.side] = row
    return [Load(table, dict(case), of_load) for (table, case), of_load in found.items()]


def better(load: Load, side: str, metric: str, *, least: bool = False) -> float | None:
    """Returns a side's metric with batches or without, whichever is better; None of no such row.

    Args:
        load: Which.
        side: Without the mark of batches.
        metric: Which.
        least: Whether less is better.
    """
    rows = [load.rows[name] for name in (side, side + cases.BATCHED) if name in load.rows]
    values = [row.metrics[metric] for row in rows if metric in row.metrics]
    return (min if least else max)(values, default=None)


def findings(record: Record) -> Iterator[Finding]:
    """Yields the aims; rows that were measured while others were busy do not count."""
    found = [_quiet(load, record.machine) for load in loads(record.rows)]
    for ours, peers in cases.PEERS.items():
        for load in (load for load in found if load.table == cases.CLOSED_TABLE):
            yield from _aims_of_load(load, ours, peers)
        for peer in peers:
            yield from _ahead(found, ours, peer)
    for load in (load for load in found if load.table == cases.CLOSED_TABLE):
        yield from _beside_the_floor(load)


def _quiet(load: Load, machine: Machine) -> Load:
    rows = {side: row for side, row in load.rows.items() if not is_noisy(row, machine)}
    return load._replace(rows=rows)


def _aims_of_load(load: Load, ours: str, peers: Sequence[str]) -> Iterator[Finding]:
    rays = [peer for peer in peers if peer in cases.RAYS]
    where = f"{load.case['model']}, {load.case['callers']} callers"
    if load.case["callers"] == _AIM_CALLERS:
        for ray in rays:
            ratio = _ratio(load, ours, ray, "requests_per_s")
            yield at_least(f"{where}: {ours} / {ray}", ratio, _count(ratio), _RAY_AIM)
        for other in peers:
            ratio = _ratio(load, ours, other, "server_cpu_ms", least=True)
            yield at_least(f"{where}: CPU a request, {ours} / {other}", ratio, _count(ratio))
    if load.case["callers"] == 1:
        for ray in rays:
            ratio = _ratio(load, ray, ours, "p50_ms", least=True)
            yield at_least(f"{where}: p50, {ray} / {ours}", ratio, _count(ratio), _AHEAD_AIM)


def _beside_the_floor(load: Load) -> Iterator[Finding]:
    """What ours costs beside a server that only calls the model, and what its cache gives."""
    if load.case["callers"] != _AIM_CALLERS:
        return
    where, ours = f"{load.case['model']}, {load.case['callers']} callers", cases.OURS_GRPC
    ratio = _ratio(load, cases.FLOOR, ours, "requests_per_s")
    yield at_most(f"{where}: {cases.FLOOR} / {ours}, at most", ratio, _count(ratio), _FLOOR_AIM)
    ratio = _ratio(load, ours, cases.FLOOR, "server_cpu_ms")
    yield at_least(f"{where}: CPU a request, {ours} / {cases.FLOOR}", ratio, _count(ratio))
    for cached in (cases.CACHE_HITS, cases.CACHE_MISSES):
        ratio = _ratio(load, cached, ours, "requests_per_s")
        yield at_least(f"{where}: {cached} / {ours}", ratio, _count(ratio))


def _ahead(found: Sequence[Load], ours: str, peer: str) -> Iterator[Finding]:
    """The least ratio over all loads of a table, of throughput or of the median's latency."""
    for table, what in (
        (cases.CLOSED_TABLE, "throughput, callers"),
        (cases.TENSOR_TABLE, "throughput, large tensors"),
    ):
        of_table = [load for load in found if load.table == table]
        ratios = [_ratio(load, ours, peer, "requests_per_s") for load in of_table]
        yield _least(f"{what}: least of {ours} / {peer}", ratios)
    of_table = [load for load in found if load.table == cases.OPEN_TABLE]
    ratios = [_ratio(load, peer, ours, "p50_ms", least=True) for load in of_table]
    yield _least(f"p50, fixed rates: least of {peer} / {ours}", ratios)


def _least(name: str, ratios: Sequence[float | None]) -> Finding:
    known = [ratio for ratio in ratios if ratio is not None]
    return at_least(name, min(known, default=None), len(known), _AHEAD_AIM)


def _ratio(load: Load, over: str, under: str, metric: str, *, least: bool = False) -> float | None:
    above, below = (better(load, side, metric, least=least) for side in (over, under))
    return above / below if above is not None and below else None


def _count(value: float | None) -> int:
    return int(value is not None)
