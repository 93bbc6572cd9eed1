"""How fast and how large two artifacts are, side by side."""

from typing import NamedTuple

from registry.evaluations import StoredEvaluation

BYTES_PER_MB = 10**6

# Of one batch size, by what gates and tables call them.
SPEED_QUANTITIES = (
    "latency_mean_ms",
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p99_ms",
    "examples_per_s",
)

# Of the program as a whole.
WHOLE_QUANTITIES = ("load_s", "peak_memory_mb")


class QuantityComparison(NamedTuple):
    """A quantity of two artifacts.

    Attributes:
        name: Which; its end is its unit.
        batch_size: Of each call; None: it is of no call.
        a: Of the one; None: it was not measured.
        b: Of the other.
        ratio: `b / a`, if both were.
    """

    name: str
    batch_size: int | None
    a: float | None
    b: float | None
    ratio: float | None


def quantities(stored: StoredEvaluation) -> dict[tuple[str, int | None], float]:
    """Returns what was measured of speed and memory, by name and batch size."""
    evaluation = stored.evaluation
    found: dict[tuple[str, int | None], float] = {
        (name, int(speed.batch_size)): getattr(speed, name)
        for speed in evaluation.speeds
        for name in SPEED_QUANTITIES
    }
    found["load_s", None] = evaluation.load_s
    found["peak_memory_mb", None] = evaluation.peak_memory_bytes / BYTES_PER_MB
    return found


def compare_quantities(
    a: StoredEvaluation | None, b: StoredEvaluation | None
) -> list[QuantityComparison]:
    """Compares what was measured of either, by batch size and name; empty if neither was."""
    of_a = {} if a is None else quantities(a)
    of_b = {} if b is None else quantities(b)
    order = [*SPEED_QUANTITIES, *WHOLE_QUANTITIES]
    keys = sorted(of_a | of_b, key=lambda key: (key[1] or 2**64, order.index(key[0])))
    return [
        QuantityComparison(
            name,
            batch_size,
            of_a.get((name, batch_size)),
            of_b.get((name, batch_size)),
            of_b[name, batch_size] / of_a[name, batch_size]
            if (name, batch_size) in of_a and (name, batch_size) in of_b
            else None,
        )
        for name, batch_size in keys
    ]
