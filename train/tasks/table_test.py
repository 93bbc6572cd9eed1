"""Each task says of every metric that it measures which of two values is better."""

from typing import Any

import numpy as np
import pytest

from data.dataset import ExampleSpec
from train.tasks.table import TASKS
from train.tasks.task import Task

_RNG = np.random.default_rng(0)
_TARGETS = {
    "classification": lambda num_classes: _RNG.integers(0, num_classes, 4),
    "next_token": lambda num_classes: _RNG.integers(-1, num_classes, (4, 5)),
    "regression": lambda num_targets: _RNG.normal(size=(4, num_targets)),
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("size", [2, 5, 6])
@pytest.mark.parametrize("bytes_per_token", [None, 2.0])
def test_every_metric_of_the_examples_has_a_direction_and_no_other(
    task: Task[Any], size: int, bytes_per_token: float | None
) -> None:
    spec = ExampleSpec("examples", (1,), "float32", size, bytes_per_token=bytes_per_token)
    targets = _TARGETS[task.name](size)
    shape = targets.shape if task.name == "regression" else (*targets.shape, size)
    summary = task.summarize(task.measure(_RNG.normal(size=shape), targets), spec)
    assert summary is not None
    assert summary.estimates.keys() == task.directions(spec).keys()
    assert task.primary in task.directions(spec)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("size", [2, 6])
def test_a_metric_is_the_mean_of_its_outcomes(task: Task[Any], size: int) -> None:
    spec = ExampleSpec("examples", (1,), "float32", size)
    targets = _TARGETS[task.name](size)
    shape = targets.shape if task.name == "regression" else (*targets.shape, size)
    outputs = _RNG.normal(size=shape).astype(np.float32)
    summary = task.summarize(task.measure(outputs, targets), spec)
    # One by one, as nothing of an example may depend on the others.
    parts = [task.outcomes(outputs[i : i + 1], targets[i : i + 1]) for i in range(len(targets))]
    weights = np.concatenate([part.weights for part in parts])
    assert summary is not None
    assert task.primary in parts[0].values
    for name in parts[0].values:
        values = np.concatenate([part.values[name] for part in parts])
        assert values.shape == weights.shape == (len(targets),)
        assert values.sum() / weights.sum() == pytest.approx(summary.estimates[name].value)
