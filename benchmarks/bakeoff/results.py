"""What a trial and a run of the bake-off led to, and how a record holds them."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.bakeoff.cases import RUN_TABLE, TRIAL_TABLE
from benchmarks.bakeoff.search import Point, Trial
from benchmarks.harness.record import Row, finite
from benchmarks.tasks.curves import curve_metrics

_POINTS_A_CURVE = 30


class Result(NamedTuple):
    """How a run ended.

    Attributes:
      train_losses: of each step; shorter where training diverged.
      tuning_loss: over the half of the held-out examples that settings are chosen by, in nats;
        infinite where training diverged.
      test_loss: over the other half.
      test_accuracy: share of its targets that are the likeliest in the model's eyes.
      state_bytes: of the optimizer, for each weight.
      clipped_fraction: of Sophia's last step; None of others.
      duration_s: of training.
    """

    train_losses: list[float]
    tuning_loss: float
    test_loss: float
    test_accuracy: float
    state_bytes: float
    clipped_fraction: float | None
    duration_s: float


class TaskRuns(NamedTuple):
    """What was run of one task.

    Attributes:
      task: its name.
      num_steps: of each run.
      trials: by optimizer, of the search.
      runs: rows by optimizer, and by its name with EIGHT_BITS, in the order of the seeds.
    """

    task: str
    num_steps: int
    trials: dict[str, list[Trial]]
    runs: dict[str, list[Row]]


def best(trials: Sequence[Trial]) -> Trial:
    """Returns the trial of the least loss."""
    return min(trials, key=lambda trial: trial.loss)


def trial_row(task: str, num_steps: int, side: str, number: int, trial: Trial) -> Row:
    """Returns a trial as a row."""
    return Row(
        table=TRIAL_TABLE,
        case={"task": task, "steps": num_steps, "number": number} | trial.point._asdict(),
        step="training",
        side=side,
        metrics=finite({"tuning_loss": trial.loss}),
    )


def run_row(task: str, num_steps: int, side: str, seed: int, point: Point, result: Result) -> Row:
    """Returns a run as a row."""
    metrics = result._asdict()
    metrics |= curve_metrics(metrics.pop("train_losses"), _POINTS_A_CURVE)
    return Row(
        table=RUN_TABLE,
        case={"task": task, "steps": num_steps, "seed": seed} | point._asdict(),
        step="training",
        side=side,
        metrics=finite({name: value for name, value in metrics.items() if value is not None}),
    )


def final_loss(run: Row) -> float:
    """Returns a run's loss at the end; infinite where training diverged."""
    return run.metrics.get("test_loss", math.inf)


def runs_of(rows: Iterable[Row]) -> list[TaskRuns]:
    """Returns the rows by task."""
    found: dict[str, TaskRuns] = {}
    for row in rows:
        task = str(row.case["task"])
        runs = found.setdefault(task, TaskRuns(task, int(row.case["steps"]), {}, {}))
        if row.table == TRIAL_TABLE:
            point = Point(float(row.case["learning_rate"]), float(row.case["weight_decay"]))
            trial = Trial(point, row.metrics.get("tuning_loss", math.inf))
            runs.trials.setdefault(row.side, []).append(trial)
        else:
            runs.runs.setdefault(row.side, []).append(row)
    return list(found.values())
