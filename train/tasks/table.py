"""The tasks by name: a new one is a folder here and a line in the table."""

from typing import Any

from data.dataset import ExampleSpec
from train.tasks.classification.task import CLASSIFICATION
from train.tasks.next_token.task import NEXT_TOKEN
from train.tasks.regression.task import REGRESSION
from train.tasks.task import Task

TASKS: dict[str, Task[Any]] = {task.name: task for task in (CLASSIFICATION, NEXT_TOKEN, REGRESSION)}


def check_targets(task: str, source: str, examples: ExampleSpec) -> None:
    """Checks that a task can be learnt from the examples of a source.

    Raises:
        ValueError: It cannot; the message names those that can.
    """
    problems = {name: _problem(other, examples) for name, other in TASKS.items()}
    if (problem := problems[task]) is not None:
        fitting = [name for name, wrong in problems.items() if wrong is None]
        advice = f"{' or '.join(fitting)} would fit" if fitting else "no task would fit"
        raise ValueError(f"data.source {source!r} {problem}; {advice}")


def _problem(task: Task[Any], examples: ExampleSpec) -> str | None:
    try:
        task.output_shape(examples)
    except ValueError as error:
        return str(error)
    return None
