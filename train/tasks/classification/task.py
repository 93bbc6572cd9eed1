"""Classification: one of some classes for each example, by cross-entropy."""

import numpy as np
from pydantic import Field

from base.config import Section
from data.dataset import ExampleSpec
from models.initializers import Shape
from models.network import Signature
from train.tasks.classification.evaluation import TOP, measure, outcomes, summarize
from train.tasks.task import Direction, Objective, Task


class CrossEntropy(Section):
    """Cross-entropy of the classes."""

    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of each target spread evenly over all classes"
    )


def _output_shape(examples: ExampleSpec) -> Shape:
    if examples.num_classes is None or examples.target_shape:
        raise ValueError(
            f"has targets {examples.target_dtype} {list(examples.target_shape)}, but task "
            "'classification' needs one class for each example"
        )
    return (examples.num_classes,)


def _directions(examples: ExampleSpec) -> dict[str, Direction]:
    found: dict[str, Direction] = {
        "accuracy": "max",
        "top5_accuracy": "max",
        "loss_nats": "min",
        "calibration_error": "min",
    }
    if (examples.num_classes or 0) <= TOP:
        del found["top5_accuracy"]
    return found


def _noise(signature: Signature, num_examples: int, rng: np.random.Generator) -> np.ndarray:
    """Draws from the standard Gumbel distribution; see `optim.torch.curvature.sample_labels`."""
    return rng.gumbel(size=(num_examples, *signature.output.shape)).astype(np.float32)


def _flax(loss: CrossEntropy) -> Objective:
    from train.tasks.classification.flax_objective import objective

    return objective(label_smoothing=loss.label_smoothing)


def _torch(loss: CrossEntropy) -> Objective:
    from train.tasks.classification.torch_objective import objective

    return objective(label_smoothing=loss.label_smoothing)


CLASSIFICATION = Task(
    name="classification",
    loss=CrossEntropy,
    output_shape=_output_shape,
    noise=_noise,
    measure=measure,
    outcomes=outcomes,
    summarize=summarize,
    directions=_directions,
    primary="accuracy",
    flax=_flax,
    torch=_torch,
)
