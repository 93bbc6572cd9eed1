"""Held-out metrics, measured through the very function that will serve the model."""

from typing import Any

import numpy as np

from data.dataset import Split
from models.network import Predict
from train.tasks.task import Task

_BATCH_SIZE = 256


def evaluate(task: Task[Any], predict: Predict, split: Split) -> dict[str, float]:
    """Predicts for every example of `split`, and measures how well.

    Returns:
        The metrics of the task, by name.
    """
    chunks = [
        predict(split.inputs[start : start + _BATCH_SIZE])
        for start in range(0, len(split), _BATCH_SIZE)
    ]
    return task.evaluate(np.concatenate(chunks), split.targets)
