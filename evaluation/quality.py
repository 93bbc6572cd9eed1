"""How good an artifact is on held-out examples, and how it does on each of them."""

import math
from typing import NamedTuple

import numpy as np

from data.dataset import Split
from evaluation.examples import EvaluationError, Examples
from models.network import Predict
from train.evaluation import Evaluation, evaluate
from train.tasks.task import Outcomes


class Quality(NamedTuple):
    """What was found.

    Attributes:
        evaluation: Metrics that are finite, with their intervals.
        higher_is_better: Of each of them.
        outcomes: Of each example, in their order, for metrics that are means.
    """

    evaluation: Evaluation
    higher_is_better: dict[str, bool]
    outcomes: Outcomes


def measure_quality(
    predict: Predict, examples: Examples, split: Split, batch_size: int = 256
) -> Quality:
    """Measures a model.

    Args:
        predict: The model.
        examples: How it is measured.
        split: On what.
        batch_size: How many are predicted at once.

    Raises:
        EvaluationError: A metric is no finite number, as of a model that diverged.
        ValueError: Nothing in the split counts.
    """
    parts: list[Outcomes] = []
    found = evaluate(
        examples.task,
        predict,
        split,
        examples.spec,
        batch_size,
        hear=lambda outputs, targets: parts.append(examples.task.outcomes(outputs, targets)),
    )
    if infinite := [name for name, value in found.metrics.items() if not math.isfinite(value)]:
        raise EvaluationError(
            f"{', '.join(infinite)} of this model is no finite number: it diverged, and cannot be "
            "evaluated"
        )
    directions = examples.task.directions(examples.spec)
    values = {
        name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values
    }
    weights = np.concatenate([part.weights for part in parts])
    return Quality(
        found,
        {name: directions[name] == "max" for name in found.metrics},
        Outcomes(values, weights),
    )
