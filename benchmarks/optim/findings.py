"""Sums the benchmark of optimizers up: its aims, with what was reached."""

from collections.abc import Iterator, Sequence

from benchmarks.harness.record import Finding, Record, Row, at_least, at_most
from benchmarks.optim import cases

_IN_OPTAX = ("adabelief", "adamw", "adan", "lion")

# (framework, algorithms, side, beside, aim): time of the side over that of the other.
_SPEED_AIMS = (
    (cases.TORCH, ("adamw",), cases.FOREACH, cases.OURS, 1.5),
    (cases.TORCH, ("adamw",), cases.FUSED, cases.OURS, 1.0),
    (cases.TORCH, ("lion", "adan", "adabelief"), cases.PYTORCH_OPTIMIZER, cases.OURS, 1.5),
    (cases.TORCH, ("adamw", "lion"), cases.BITSANDBYTES_8_BITS, cases.OURS_8_BITS, 1.0),
    (cases.JAX, (*_IN_OPTAX, "sophia"), cases.OURS_IN_XLA, cases.OURS, 1.0),
    (cases.JAX, _IN_OPTAX, cases.OPTAX, cases.OURS, 1.0),
)
_BYTES_AIM = 0.30


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Returns the rows by algorithm, framework and model."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        key = (row.case["algorithm"], row.case["framework"], row.case["weights"])
        found.setdefault(key, []).append(row)
    return list(found.values())


def findings(record: Record) -> Iterator[Finding]:
    """Yields the aims: the least ratio over all models and algorithms of each."""
    all_groups = groups(record.rows)
    for framework, algorithms, side, other, aim in _SPEED_AIMS:
        for algorithm in algorithms:
            ratios = []
            for group in all_groups:
                case, by_side = group[0].case, {row.side: row for row in group}
                if (case["framework"], case["algorithm"]) == (framework, algorithm):
                    theirs, ours = by_side.get(side), by_side.get(other)
                    if theirs and ours and theirs.timing and ours.timing:
                        ratios.append(theirs.timing.median_ms / ours.timing.median_ms)
            name = f"{framework}, {algorithm}: time of {side} / {other}"
            yield at_least(name, min(ratios, default=None), len(ratios), aim)
    # Of the largest model: small tensors keep float32.
    largest = max(float(row.case["weights"]) for row in record.rows)
    ratios = []
    for group in all_groups:
        bytes_of = {row.side: row.metrics["state_bytes_per_weight"] for row in group}
        if group[0].case["weights"] == largest:
            ratios.append(bytes_of[cases.OURS_8_BITS] / bytes_of[cases.OURS])
    yield at_most("bytes of state in 8 bits / in 32, at most", max(ratios), len(ratios), _BYTES_AIM)
