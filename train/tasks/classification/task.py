"""Classification: one of some classes for each example, by cross-entropy."""

import numpy as np
from pydantic import Field

from base.config import Section
from data.dataset import ExampleSpec
from models.network import Signature
from train.tasks.classification.evaluation import evaluate
from train.tasks.task import Objective, Task


class CrossEntropy(Section):
    """Cross-entropy, with `label_smoothing` of each target spread evenly over all classes."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


def _check(signature: Signature, examples: ExampleSpec) -> None:
    takes, gives = signature
    fits = (
        takes.shape == examples.input_shape
        and takes.dtype == examples.input_dtype
        and gives.shape == (examples.num_classes,)
    )
    if not fits:
        raise ValueError(
            f"takes {takes.dtype} {list(takes.shape)} and gives {list(gives.shape)}, but needs "
            f"to take {examples.input_dtype} {list(examples.input_shape)}, as the {examples.unit} "
            f"are, and to give [{examples.num_classes}], one for each class"
        )


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
    check=_check,
    noise=_noise,
    evaluate=evaluate,
    flax=_flax,
    torch=_torch,
)
