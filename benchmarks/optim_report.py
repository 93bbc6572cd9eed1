"""Shows what the benchmark of optimizers measured: tables, aims, Markdown, and panels of a plot."""

from collections.abc import Iterator, Sequence

from benchmarks.machine import in_words
from benchmarks.optim_sides import (
    BITSANDBYTES_8_BITS,
    FOREACH,
    FUSED,
    JAX,
    MISSING,
    OPTAX,
    OURS,
    OURS_8_BITS,
    OURS_IN_XLA,
    PYTORCH_OPTIMIZER,
    TORCH,
)
from benchmarks.plot import Panel
from benchmarks.record import Finding, Record, Row, fenced, finding_lines, table_lines

HOW_TO_READ = """\
A step updates all weights of a transformer, float32, from gradients that are there; the sides take
turns in one process. `ms` is the median, then the quartiles; `/ ours` the same over ours in 32 bits
of the same framework. `bytes` are those of state for each weight. `differs` is how far the weights
are from ours after one step, in learning rates. JAX's arrays are donated and the weights are
updated too, by optax.apply_updates or in the fused step. optax's adan has another weight of the
gradients' difference, which the first step does not show."""

# (framework, algorithms, side, beside, aim): time of the side over that of the other.
_SPEED_AIMS = (
    (TORCH, ("adamw",), FOREACH, OURS, 1.5),
    (TORCH, ("adamw",), FUSED, OURS, 1.0),
    (TORCH, ("lion", "adan", "adabelief"), PYTORCH_OPTIMIZER, OURS, 1.5),
    (TORCH, ("adamw", "lion"), BITSANDBYTES_8_BITS, OURS_8_BITS, 1.0),
    (JAX, ("adabelief", "adamw", "adan", "lion", "sophia"), OURS_IN_XLA, OURS, 1.0),
    (JAX, ("adabelief", "adamw", "adan", "lion"), OPTAX, OURS, 1.0),
)
_BYTES_AIM = 0.30


def group_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the table of one algorithm over one model in one framework, ours first."""
    case = rows[0].case
    millions = float(case["weights"]) / 1e6
    yield (
        f"{case['algorithm']} in {case['framework']}, {millions:.1f} million weights "
        f"in {case['tensors']} tensors"
    )
    titles = ("", "ms", "quartiles", "/ ours", "bytes", "differs")
    cells = [
        (
            row.side,
            f"{row.timing.median_ms:.3f}",
            f"{row.timing.low_ms:.3f} to {row.timing.high_ms:.3f}",
            f"{row.metrics['times_ours']:.2f}",
            f"{row.metrics['state_bytes_per_weight']:.2f}",
            f"{row.metrics['differs_in_rates']:.1e}",
        )
        for row in rows
        if row.timing is not None
    ]
    yield from table_lines(titles, cells)


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Returns the rows by algorithm, framework and model."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        key = (row.case["algorithm"], row.case["framework"], row.case["weights"])
        found.setdefault(key, []).append(row)
    return list(found.values())


def findings(rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Returns the aims: the least ratio over all models and algorithms of each."""
    found = []
    for framework, algorithms, side, other, aim in _SPEED_AIMS:
        for algorithm in algorithms:
            ratios = []
            for group in groups(rows):
                case, by_side = group[0].case, {row.side: row for row in group}
                if (case["framework"], case["algorithm"]) == (framework, algorithm):
                    theirs, ours = by_side.get(side), by_side.get(other)
                    if theirs and ours and theirs.timing and ours.timing:
                        ratios.append(theirs.timing.median_ms / ours.timing.median_ms)
            name = f"{framework}, {algorithm}: time of {side} / {other}"
            found.append(_finding(name, ratios, aim))
    return (*found, _bytes_finding(rows))


def _finding(name: str, ratios: Sequence[float], aim: float) -> Finding:
    value = min(ratios, default=None)
    return Finding(
        name=name,
        value=value,
        cases=len(ratios),
        aim=aim,
        reached=None if value is None else value >= aim,
    )


def _bytes_finding(rows: Sequence[Row]) -> Finding:
    """Of the largest model: small tensors keep float32."""
    largest = max(float(row.case["weights"]) for row in rows)
    ratios = []
    for group in groups(rows):
        bytes_of = {row.side: row.metrics["state_bytes_per_weight"] for row in group}
        if group[0].case["weights"] == largest:
            ratios.append(bytes_of[OURS_8_BITS] / bytes_of[OURS])
    value = max(ratios)
    return Finding(
        name="bytes of state in 8 bits / in 32, at most",
        value=value,
        cases=len(ratios),
        aim=_BYTES_AIM,
        reached=value <= _BYTES_AIM,
    )


def panels(rows: Sequence[Row]) -> list[Panel]:
    """One panel for each algorithm and framework, a line for each side."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        if row.timing is not None:
            lines = found.setdefault(f"{row.case['algorithm']}, {row.case['framework']}", {})
            point = (float(row.case["weights"]) / 1e6, row.timing.median_ms)
            lines.setdefault(row.side, []).append(point)
    return [Panel(title, lines) for title, lines in found.items()]


def markdown(record: Record, plot_name: str) -> str:
    """Returns the whole record for people."""
    tables = [line for group in groups(record.rows) for line in ("", *group_lines(group))]
    parts = [
        f"# {record.benchmark}, {record.machine.date}",
        fenced([record.command]),
        f"{in_words(record.machine)}. {record.duration_s / 60:.1f} minutes.",
        f"![Time of a step]({plot_name})",
        "## Findings",
        "The least ratio over the models.",
        fenced(list(finding_lines(record.findings))),
        "## Steps",
        HOW_TO_READ,
        fenced(tables[1:]),
        "## Not measured",
        "\n".join(f"- {what}: {why}" for what, why in MISSING.items()),
    ]
    return "\n\n".join(parts) + "\n"
