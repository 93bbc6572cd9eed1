"""Each task says of every metric that it measures which of two values is better."""

from typing import Any

import numpy as np
import pytest

from data.dataset import ExampleSpec
from train.tasks.table import TASKS
from train.tasks.task import Task

_RNG = np.random.default_rng(0)
_EXAMPLES = {
    "classification": (_RNG.normal(size=(4, 7)), _RNG.integers(0, 7, 4)),
    "next_token": (_RNG.normal(size=(4, 5, 7)), _RNG.integers(-1, 7, (4, 5))),
    "regression": (_RNG.normal(size=(4, 3)), _RNG.normal(size=(4, 3))),
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_metric_has_a_direction(task: Task[Any]) -> None:
    spec = ExampleSpec("examples", (1,), "float32", None, bytes_per_token=2.0)
    summary = task.summarize(task.measure(*_EXAMPLES[task.name]), spec)
    assert summary is not None
    assert summary.estimates.keys() == task.directions.keys()
    assert task.primary in task.directions
