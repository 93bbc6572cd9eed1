"""Regression: some numbers of each example, by their squared error."""

import numpy as np
from pydantic import Field

from base.config import Section
from data.dataset import ExampleSpec
from models.initializers import Shape
from models.network import Signature
from train.tasks.regression.evaluation import measure, outcomes, summarize
from train.tasks.task import Objective, Task


class SquaredError(Section):
    """The squared error, a mean over all numbers of all examples."""

    huber_delta: float | None = Field(
        default=None,
        gt=0,
        description="errors beyond it count linearly, 2 delta |error| - delta^2; null: none do",
    )


def _output_shape(examples: ExampleSpec) -> Shape:
    if examples.num_classes is not None or len(examples.target_shape) != 1:
        raise ValueError(
            f"has targets {examples.target_dtype} {list(examples.target_shape)}, but task "
            "'regression' needs numbers that are no classes, [num_targets]"
        )
    return examples.target_shape


def _noise(signature: Signature, num_examples: int, rng: np.random.Generator) -> np.ndarray:
    """Draws from the standard normal distribution."""
    return rng.normal(size=(num_examples, *signature.output.shape)).astype(np.float32)


def _flax(loss: SquaredError) -> Objective:
    from train.tasks.regression.flax_objective import objective

    return objective(huber_delta=loss.huber_delta)


def _torch(loss: SquaredError) -> Objective:
    from train.tasks.regression.torch_objective import objective

    return objective(huber_delta=loss.huber_delta)


REGRESSION = Task(
    name="regression",
    loss=SquaredError,
    output_shape=_output_shape,
    noise=_noise,
    measure=measure,
    outcomes=outcomes,
    summarize=summarize,
    directions=lambda _: {"mae": "min", "mse": "min", "r2": "max"},
    primary="mse",
    flax=_flax,
    torch=_torch,
)
