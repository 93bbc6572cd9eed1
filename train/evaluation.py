"""Held-out metrics, measured through the very function that will serve the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.dataset import ExampleSpec, Split
from models.network import Predict
from train.launch.heartbeat import beat
from train.tasks.estimates import Interval
from train.tasks.task import Task


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on held-out examples.

    Attributes:
        metrics: Of the task, by name.
        intervals: Of those that have one, its 95% interval: see `train.tasks.estimates`.
        num_examples: That were predicted.
        num_counted: How many things metrics are over: examples, or tokens, or numbers.
        tables: Whatever else the task measures, as JSON has it, such as a confusion matrix.
    """

    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    num_examples: int
    num_counted: int
    tables: Mapping[str, Any]


def evaluate(
    task: Task[Any],
    predict: Predict,
    split: Split,
    examples: ExampleSpec,
    batch_size: int = 256,
    rows: np.ndarray | None = None,
    hear: Callable[[np.ndarray, np.ndarray], object] = lambda outputs, targets: None,
) -> Evaluation:
    """Predicts for every example of `split`, and measures how well.

    Outputs are measured batch by batch and dropped, so that those of a language model, which are
    hundreds of times the text, need not fit into memory.

    Args:
        task: What is predicted.
        predict: The function that will serve the model.
        split: The examples.
        examples: What these are.
        batch_size: How many are predicted at once.
        rows: Which of the examples are measured; None: all.
        hear: Told the outputs and the targets of each batch, in order.

    Raises:
        ValueError: Nothing in the split counts.
    """
    total: dict[str, np.ndarray] = {}
    batch: slice | np.ndarray
    num_examples = len(split) if rows is None else len(rows)
    for start in range(0, num_examples, batch_size):
        beat()
        batch = slice(start, start + batch_size)
        if rows is not None:
            batch = rows[batch]
        outputs = predict(split.inputs[batch])
        with np.errstate(invalid="ignore"):  # of a model that diverged, metrics are NaN
            part = task.measure(outputs, split.targets[batch])
            hear(outputs, split.targets[batch])
        total = {name: total.get(name, 0) + value for name, value in part.items()}
    summary = task.summarize(total, examples) if total else None
    if summary is None:
        raise ValueError(f"task {task.name!r} has nothing to measure: no held-out target counts")
    estimates = dict(sorted(summary.estimates.items()))
    return Evaluation(
        metrics={name: estimate.value for name, estimate in estimates.items()},
        intervals={
            name: estimate.interval
            for name, estimate in estimates.items()
            if estimate.interval is not None
        },
        num_examples=num_examples,
        num_counted=summary.num_counted,
        tables=summary.tables,
    )
