"""Held-out metrics, measured through the very function that will serve the model."""

import math
from typing import Any

from data.dataset import Split
from models.network import Predict
from train.tasks.task import Task

_BATCH_SIZE = 256


def evaluate(task: Task[Any], predict: Predict, split: Split) -> dict[str, float]:
    """Predicts for every example of `split`, and measures how well.

    Outputs are measured batch by batch and dropped, so that those of a language model, which are
    hundreds of times the text, need not fit into memory.

    Returns:
        The metrics of the task, by name.

    Raises:
        ValueError: Nothing in the split counts.
    """
    parts = []
    for start in range(0, len(split), _BATCH_SIZE):
        batch = slice(start, start + _BATCH_SIZE)
        parts.append(task.measure(predict(split.inputs[batch]), split.targets[batch]))
    weight = math.fsum(part.weight for part in parts)
    if not weight:
        raise ValueError(f"task {task.name!r} has nothing to measure: no held-out target counts")
    return {name: math.fsum(part.sums[name] for part in parts) / weight for name in parts[0].sums}
