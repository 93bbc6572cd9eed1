"""Sums the benchmark of memory up: how it grows with the number of blocks, beside the ordinary."""

from collections.abc import Iterator, Sequence

from benchmarks.harness.record import Finding, Record, Row, at_most
from benchmarks.memory import cases

# A block of a network has so much to keep; of it a way may keep this share.
_AIMS = {cases.ATTENTION: 0.25, cases.FULL: 0.35, cases.REVERSIBLE: 0.01}


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Returns the rows by framework and network."""
    found: dict[tuple[object, object], list[Row]] = {}
    for row in rows:
        found.setdefault((row.case["framework"], row.case["network"]), []).append(row)
    return list(found.values())


def growth(rows: Sequence[Row], side: str) -> float | None:
    """Returns the bytes of one block more, from the fewest to the most; None of one number."""
    peaks = {int(r.case["blocks"]): r.metrics["peak_bytes"] for r in rows if r.side == side}
    few, many = min(peaks), max(peaks)
    return (peaks[many] - peaks[few]) / (many - few) if many > few else None


def findings(record: Record) -> Iterator[Finding]:
    """Yields the share of ordinary back-propagation's growth that each other way has."""
    for rows in groups(record.rows):
        case, plain = rows[0].case, growth(rows, cases.PLAIN)
        for side in dict.fromkeys(row.side for row in rows if row.side != cases.PLAIN):
            grown = growth(rows, side)
            share = grown / plain if grown is not None and plain else None
            name = f"{case['framework']}, {case['network']}: growth, {side} / {cases.PLAIN}"
            count = sum(row.side == side for row in rows)
            yield at_most(name, share, count, _AIMS[side])
