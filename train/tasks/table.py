"""The tasks by name: a new one is a folder here and a line in the table."""

from typing import Any

from train.tasks.classification.task import CLASSIFICATION
from train.tasks.next_token.task import NEXT_TOKEN
from train.tasks.regression.task import REGRESSION
from train.tasks.task import Task

TASKS: dict[str, Task[Any]] = {task.name: task for task in (CLASSIFICATION, NEXT_TOKEN, REGRESSION)}
