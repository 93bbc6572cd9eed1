"""Sums the compression benchmark up: its aims, with what was reached."""

from collections.abc import Iterator, Sequence

from benchmarks.compression import cases
from benchmarks.harness.machine import Machine
from benchmarks.harness.record import Finding, Record, Row, at_least, at_most, is_noisy

# The link that the aims for time are about, in Gbit/s: where the network is what is slow.
_AIM_RATE = 1.0
_FLOAT32_AIM = 3.3
_AHEAD_AIM = 1.0
_WIRE_AIMS = {cases.FLOAT32: 0.27, cases.BFLOAT16: 0.52}
_COPY_AIM = 0.8

# Sides that need no proof of reaching the loss of float32; //benchmarks:convergence has ours.
SAME_LOSS = (cases.FLOAT32, cases.BFLOAT16, cases.FLOAT16)


def findings(record: Record) -> Iterator[Finding]:
    """Yields the aims, and beside them what PowerSGD takes and what other links give.

    Times measured while others were busy do not count; bytes do.
    """
    times = [row for row in record.rows if row.table == cases.TIME_TABLE]
    rates = sorted({float(row.case["gbit_per_s"]) for row in times})
    for world in sorted({int(row.case["world_size"]) for row in times}):
        for rate in rates:
            of_link = [row for row in times if _on(row, world, rate)]
            link = f"{world} ranks, {rate:g} Gbit/s"
            yield from _time_findings(of_link, record.machine, link, rate == _AIM_RATE)
        yield from _wire_findings([row for row in times if _on(row, world, rates[0])], world)
    yield from _kernel_findings(record.rows)


def _on(row: Row, world: int, rate: float) -> bool:
    return row.case["world_size"] == world and row.case["gbit_per_s"] == rate


def _time_findings(
    rows: Sequence[Row], machine: Machine, link: str, is_aim: bool
) -> Iterator[Finding]:
    ratios = {row.side: row.metrics["times_ours"] for row in rows if not is_noisy(row, machine)}
    word = "aim: " if is_aim else ""
    name = f"{word}{link}: {cases.FLOAT32} time / ours"
    yield _at_least(name, ratios.get(cases.FLOAT32), _FLOAT32_AIM if is_aim else None)
    peers = [ratios[side] for side in SAME_LOSS if side in ratios]
    name = f"{word}{link}: least time / ours of {', '.join(SAME_LOSS)}"
    yield _at_least(name, min(peers, default=None), _AHEAD_AIM if is_aim else None)
    peers = [ratios[side] for side in cases.POWER_SGD.values() if side in ratios]
    yield _at_least(f"{link}: least time / ours of PowerSGD", min(peers, default=None), None)


def _wire_findings(rows: Sequence[Row], world: int) -> Iterator[Finding]:
    sent = {row.side: row.metrics["sent_mb"] for row in rows}
    for side, aim in _WIRE_AIMS.items():
        value = sent[cases.OURS] / sent[side] if {cases.OURS, side} <= sent.keys() else None
        name = f"aim: {world} ranks: bytes sent / {side}'s, at most"
        yield at_most(name, value, int(value is not None), aim)


def _kernel_findings(rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        if row.table == cases.KERNEL_TABLE and row.side == cases.COPY:
            aim = _COPY_AIM if row.step.startswith("quantize") else None
            word = "aim: " if aim else ""
            name = f"{word}kernel: {row.step}: time of a copy / ours"
            yield _at_least(name, row.metrics["times_ours"], aim)


def _at_least(name: str, value: float | None, aim: float | None) -> Finding:
    return at_least(name, value, int(value is not None), aim)
