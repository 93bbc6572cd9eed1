"""Sums the attention benchmark up: ratios to each peer, and the aims with what was reached."""

import math
from collections.abc import Callable, Iterator, Sequence

from benchmarks.attention.cases import DIRECTIONS, MEMORY_TABLE, PLAIN, TIME_TABLE
from benchmarks.attention.sides import JAX_NN, OURS_JAX, OURS_TORCH, SDPA, XLA, is_ours
from benchmarks.harness.record import Finding, Record, Row, at_least, at_most, is_noisy

Where = Callable[[Row], bool]

# How many times faster than SDPA, forward and backward each.
_SDPA_AIMS = {"float32": 2.0, "bfloat16": 3.0}
_MASKED_AIM = 4.0
_XLA_AIM = 5.0
_CEILING_AIM = 0.7
_CEILING_FROM_LENGTH = 2048
# Memory that is linear in the length grows as its first power; a margin for what does not grow.
_MEMORY_POWER_AIM = 1.1

# TFLOP/s on one H200 in bfloat16 with head_dim 128, by (direction, causal) and length: cuDNN's own
# table forward, and the best published backward.
_H200_AIMS = {
    ("forward", True): {4096: 591.0, 8192: 644.0, 16384: 673.0},
    ("forward", False): {4096: 671.0, 8192: 691.0, 16384: 702.0},
    ("backward", True): {4096: 474.0, 8192: 541.0, 16384: 579.0},
}


def geometric_mean(values: Sequence[float]) -> float | None:
    """Returns the geometric mean of positive numbers; None of no numbers."""
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if values else None


def findings(record: Record) -> tuple[Finding, ...]:
    """Returns the ratios to each peer, then the aims of the device that was measured.

    Times measured while others were busy do not count.
    """
    quiet = [row for row in record.rows if not is_noisy(row, record.machine)]
    if record.settings["device"] == "cuda":
        return (*_ratio_findings(quiet), *_gpu_aims(quiet, record.machine.gpu))
    dtypes = [d for d in _SDPA_AIMS if any(row.case.get("dtype") == d for row in record.rows)]
    return (*_ratio_findings(quiet), *_cpu_aims(quiet, dtypes))


def _ratio_findings(rows: Sequence[Row]) -> Iterator[Finding]:
    """Yields how many times our time each side takes, by feature, dtype, mask and direction."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        if row.table == TIME_TABLE and "times_ours" in row.metrics:
            case = row.case
            mask = ("causal" if case["causal"] else "full") if case["feature"] == PLAIN else ""
            words = (row.side, case["feature"], case["dtype"], mask, row.step)
            name = " ".join(str(word) for word in words if word)
            groups.setdefault(name, []).append(row.metrics["times_ours"])
    for name, values in groups.items():
        yield at_least(f"{name}: time / ours", geometric_mean(values), len(values))


def _cpu_aims(rows: Sequence[Row], dtypes: Sequence[str]) -> Iterator[Finding]:
    passes = [(dtype, step) for dtype in dtypes for step in DIRECTIONS[:2]]
    for dtype, step in passes:
        yield _ratio(rows, SDPA, PLAIN, dtype, step, _SDPA_AIMS[dtype])
    for dtype, step in passes:
        yield _lowest_fraction(rows, dtype, step)
    for feature in ("alibi", "window"):
        for dtype, step in passes:
            yield _ratio(rows, SDPA, feature, dtype, step, _MASKED_AIM)
    for peer in (JAX_NN, XLA):
        for dtype, step in passes:
            yield _ratio(rows, peer, PLAIN, dtype, step, _XLA_AIM)
    for side in (OURS_TORCH, OURS_JAX):
        for dtype in dtypes:
            for step in DIRECTIONS:
                yield from _memory_power(rows, side, dtype, step)


def _gpu_aims(rows: Sequence[Row], gpus: Sequence[str]) -> Iterator[Finding]:
    if any("H200" in gpu for gpu in gpus):
        for (step, causal), by_length in _H200_AIMS.items():
            for length, aim in by_length.items():
                yield _tflops(rows, step, causal, length, aim)
    for step in DIRECTIONS:
        ratios = [
            row.metrics["times_ours"]
            for row in _timed(rows, _where(feature=PLAIN, step=step))
            if not is_ours(row.side) and "times_ours" in row.metrics
        ]
        name = f"aim: the fastest peer of each case, {step}: least time / ours"
        yield at_least(name, min(ratios, default=None), len(ratios), aim=1.0)


def _tflops(rows: Sequence[Row], step: str, causal: bool, length: int, aim: float) -> Finding:
    wanted = _where(
        feature=PLAIN, dtype="bfloat16", step=step, causal=causal, seq_k=length, head_dim=128
    )
    values = [r.metrics["gflop_per_s"] / 1e3 for r in _timed(rows, wanted) if is_ours(r.side)]
    mask = "causal" if causal else "full"
    name = f"aim: ours, bfloat16 {mask} {step} {length}: TFLOP/s"
    return at_least(name, max(values, default=None), len(values), aim)


def _ratio(
    rows: Sequence[Row], peer: str, feature: str, dtype: str, step: str, aim: float
) -> Finding:
    values = [
        row.metrics["times_ours"]
        for row in _timed(rows, _where(feature=feature, dtype=dtype, step=step))
        if row.side == peer and "times_ours" in row.metrics
    ]
    words = (peer, "" if feature == PLAIN else feature, dtype, step)
    name = f"aim: {' '.join(word for word in words if word)}: time / ours"
    return at_least(name, geometric_mean(values), len(values), aim)


def _lowest_fraction(rows: Sequence[Row], dtype: str, step: str) -> Finding:
    values = [
        row.metrics["fraction_of_ceiling"]
        for row in _timed(rows, _where(feature=PLAIN, dtype=dtype, step=step))
        if row.side == OURS_TORCH and int(row.case["seq_k"]) >= _CEILING_FROM_LENGTH
    ]
    name = f"aim: {OURS_TORCH} {dtype} {step}, {_CEILING_FROM_LENGTH} and up: least of ceiling"
    return at_least(name, min(values, default=None), len(values), _CEILING_AIM)


def _memory_power(rows: Sequence[Row], side: str, dtype: str, step: str) -> Iterator[Finding]:
    """Yields the power of the length with which memory grows, if two lengths were measured."""
    wanted = _where(dtype=dtype, step=step)
    peaks = {
        int(row.case["seq_k"]): row.metrics["peak_mib"]
        for row in rows
        if row.table == MEMORY_TABLE and row.side == side and wanted(row) and row.missing is None
    }
    if len(peaks) < 2 or min(peaks.values()) <= 0:
        return
    shortest, longest = min(peaks), max(peaks)
    power = math.log(peaks[longest] / peaks[shortest]) / math.log(longest / shortest)
    name = f"aim: {side} {dtype} {step}: memory grows as length to the, at most"
    yield at_most(name, power, len(peaks), _MEMORY_POWER_AIM)


def _timed(rows: Sequence[Row], where: Where) -> list[Row]:
    return [
        row for row in rows if row.table == TIME_TABLE and row.timing is not None and where(row)
    ]


def _where(*, step: str, **case: str | int | bool) -> Where:
    """Selects the rows of one step whose case has these values."""
    return lambda row: row.step == step and all(row.case[key] == v for key, v in case.items())
