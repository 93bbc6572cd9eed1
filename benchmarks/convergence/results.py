"""What training with one variant led to, and how a record holds it."""

import math
import statistics
from typing import NamedTuple

from benchmarks.convergence.cases import RUN_TABLE, Cell
from benchmarks.harness.record import Row, finite
from benchmarks.tasks.curves import curve_metrics

# The training loss of a run is the mean over so many of its last steps.
LAST_STEPS = 50

_POINTS_A_CURVE = 20

HELD_OUT_LOSS, TRAIN_LOSS, ACCURACY = "held-out loss", "training loss", "held-out accuracy"
METRICS = (HELD_OUT_LOSS, TRAIN_LOSS, ACCURACY)

_BYTES = "bytes_over_float32"


class Result(NamedTuple):
    """How training with one variant went.

    Attributes:
      variant: its name.
      train_losses: of each step, over all ranks.
      held_out_loss: in nats.
      accuracy: share of the held-out targets that are the likeliest in the model's eyes.
      bytes_ratio: bytes sent over those of float32, if they were counted.
      duration_s: of training.
    """

    variant: str
    train_losses: list[float]
    held_out_loss: float
    accuracy: float
    bytes_ratio: float | None
    duration_s: float


def run_row(cell: Cell, result: Result) -> Row:
    """Returns a run as a row, without what is not finite."""
    metrics = {
        _key(HELD_OUT_LOSS): result.held_out_loss,
        _key(TRAIN_LOSS): statistics.fmean(result.train_losses[-LAST_STEPS:]),
        _key(ACCURACY): result.accuracy,
    }
    metrics |= curve_metrics(result.train_losses, _POINTS_A_CURVE)
    metrics |= {} if result.bytes_ratio is None else {_BYTES: result.bytes_ratio}
    return Row(
        table=RUN_TABLE,
        case=dict(cell._asdict()),
        step="training",
        side=result.variant,
        metrics=finite(metrics | {"duration_s": result.duration_s}),
    )


def value_of(row: Row, metric: str) -> float:
    """Returns one of METRICS of a run; NaN where training diverged."""
    return row.metrics.get(_key(metric), math.nan)


def bytes_ratio(row: Row) -> float | None:
    """Returns a run's bytes over those of float32, where they were counted."""
    return row.metrics.get(_BYTES)


def _key(metric: str) -> str:
    return metric.replace("-", "_").replace(" ", "_")
