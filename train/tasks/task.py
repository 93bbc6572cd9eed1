"""What a task is to those who train: one record, the same for every task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np

from base.config import Section
from data.dataset import ExampleSpec
from models.initializers import Shape
from models.network import Signature
from train.tasks.estimates import Estimate

Loss = TypeVar("Loss", bound=Section)

# Of one framework: an array, or a tensor.
Array = Any

# Which of two values of a metric is better.
Direction = Literal["max", "min"]


class Objective(NamedTuple):
    """What training minimises and measures, in one framework.

    Attributes:
        loss: `(outputs, targets)` of a batch to `(loss, metrics)`: the mean loss, [], and means by
            name, [] each.
        sampled_loss: `(outputs, targets, noise)` of a batch to the mean loss [] where targets are
            drawn from what the model itself predicts, for the Gauss-Newton-Bartlett estimate of
            curvature. Of `targets` only those that do not count are heeded.
        weight: `targets` of a batch to the number of things [] that its means are over, such as
            tokens that are no padding; means over several batches are weighted by it. None: it is
            the number of examples.
    """

    loss: Callable[[Array, Array], tuple[Array, dict[str, Array]]]
    sampled_loss: Callable[[Array, Array, Array], Array]
    weight: Callable[[Array], Array] | None = None


class Outcomes(NamedTuple):
    """How a model did on each example, from which metrics of two models can be compared in pairs.

    Attributes:
        values: Of each metric that is a mean over all that is counted, by its name, `[n]`: what is
            counted of one example added up. Bool where it is one thing that is true or not, else
            float64.
        weights: `[n]` float64, how many things are counted of each example. The metric is the sum
            of its values over the sum of these.
    """

    values: Mapping[str, np.ndarray]
    weights: np.ndarray


# Statistics of examples by name, float64 or int64 of any shape. Those of parts add up to those of
# the whole, so that none need be kept.
Tally = Mapping[str, np.ndarray]


class Summary(NamedTuple):
    """How good a model's predictions are.

    Attributes:
        estimates: Of each metric.
        num_counted: How many things they are over: examples, or tokens, or numbers.
        tables: Whatever else is worth a look, as JSON has it.
    """

    estimates: Mapping[str, Estimate]
    num_counted: int
    tables: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Task(Generic[Loss]):
    """What is predicted, how wrong a prediction is, and how models are measured.

    Attributes:
        name: In configurations, `task`.
        loss: The section `loss` of a configuration.
        output_shape: What a model has to give of one of such examples; raises a ValueError if they
            cannot be learnt from.
        noise: Draws what `Objective.sampled_loss` needs for so many examples, float32 `[n, ...]`.
        measure: Outputs `[n, ...]` and targets `[n, ...]` to what the held-out metrics are made of.
        outcomes: Outputs `[n, ...]` and targets `[n, ...]` to how the model did on each of them.
        summarize: Of the tallies of all held-out examples, and what these are, the metrics; None if
            there is nothing to measure.
        directions: Of each metric that is measured on such held-out examples, whether more of it
            is better, or less.
        primary: The metric by which models are compared unless another one is asked for.
        flax: The objective in JAX. Imports JAX.
        torch: The objective in PyTorch. Imports PyTorch.
    """

    name: str
    loss: type[Loss]
    output_shape: Callable[[ExampleSpec], Shape]
    noise: Callable[[Signature, int, np.random.Generator], np.ndarray]
    measure: Callable[[np.ndarray, np.ndarray], Tally]
    outcomes: Callable[[np.ndarray, np.ndarray], Outcomes]
    summarize: Callable[[Tally, ExampleSpec], Summary | None]
    directions: Callable[[ExampleSpec], Mapping[str, Direction]]
    primary: str
    flax: Callable[[Loss], Objective]
    torch: Callable[[Loss], Objective]

    def check(self, signature: Signature, examples: ExampleSpec) -> None:
        """Checks that a model of a signature can learn it from such examples.

        Raises:
            ValueError: It cannot.
        """
        takes, gives = signature
        needed, wrong = self.output_shape(examples), []
        if (takes.shape, takes.dtype) != (examples.input_shape, examples.input_dtype):
            wrong.append(
                f"takes {takes.dtype} {list(takes.shape)}, but the {examples.unit} are "
                f"{examples.input_dtype} {list(examples.input_shape)}"
            )
        if gives.shape != needed:
            wrong.append(f"gives {list(gives.shape)}, but task {self.name!r} needs {list(needed)}")
        if wrong:
            raise ValueError("; ".join(wrong))
