"""Sums up: that both sides end at the same loss, and that our step takes no longer."""

from collections.abc import Iterator, Sequence

from benchmarks.harness.record import Finding, Record, Row, at_least, at_most
from benchmarks.networks.cases import NETWORK_ALONE, OURS, PLAIN, PLAIN_DEEPSPEED, STEP_TABLE

# Losses of about 1, over steps in which rounding errors grow.
_LOSS_AIM = 0.01


def groups(rows: Sequence[Row]) -> list[dict[str, Row]]:
    """Returns the steps of each network and framework, by side."""
    found: dict[tuple[object, object], dict[str, Row]] = {}
    for row in (row for row in rows if row.table == STEP_TABLE):
        found.setdefault((row.case["network"], row.case["framework"]), {})[row.side] = row
    return list(found.values())


def findings(record: Record) -> Iterator[Finding]:
    """Yields the aims for each network and framework: equal losses, and no longer steps."""
    for group in groups(record.rows):
        plain, count = group[PLAIN], len(group)
        name = f"{plain.case['network']}, {plain.case['framework']}"
        ends = [group[side].metrics["loss_at_the_end"] for side in (OURS, PLAIN)]
        apart = abs(ends[0] - ends[1])
        yield at_most(f"{name}: losses at the end differ by", apart, count, _LOSS_AIM)
        for other, side in ((PLAIN, OURS), (PLAIN, NETWORK_ALONE), (PLAIN_DEEPSPEED, OURS)):
            if other in group:
                ratio = group[other].metrics["times_ours"] / group[side].metrics["times_ours"]
                yield at_least(f"{name}: time, {other} / {side}", ratio, count, 1.0)
