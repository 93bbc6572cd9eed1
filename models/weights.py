"""Canonical weights: the names, layouts and initial values that both frameworks share.

A set of weights is a plain `dict[str, np.ndarray]` with PyTorch's names and layouts (a linear layer
holds `weight [out, in]` and `bias [out]`). `models/flax/weights.py` and `models/torch/weights.py`
convert to and from it exactly, so weights trained in one framework are weights of the other.
"""

import math
from collections.abc import Mapping

import numpy as np

from base.seeds import stream
from models.architecture import Model
from models.initializers import Shape

Weights = dict[str, np.ndarray]


class WeightsError(ValueError):
    """Weights that do not belong to the model; the message names the tensors at fault."""


def weight_shapes(model: Model) -> Mapping[str, Shape]:
    """Returns the shape of every weight of the model, by canonical name."""
    return {name: weight.shape for name, weight in model.network.weights(model.config).items()}


def num_weights(model: Model) -> int:
    """Counts the model's weights."""
    return sum(map(math.prod, weight_shapes(model).values()))


def decaying_weights(model: Model) -> frozenset[str]:
    """Returns the names of the weights that weight decay makes smaller: matrices and the like.

    Biases and what norms multiply by do not decay: vectors, and also a stack of biases, such as the
    experts of a mixture have.
    """
    return frozenset(
        name
        for name, weight in model.network.weights(model.config).items()
        if weight.trainable and len(weight.shape) > 1 and name.rpartition(".")[2] != "bias"
    )


def init_weights(model: Model, seed: int) -> Weights:
    """Draws initial weights, the same float32 values whichever framework then trains them.

    Args:
        model: Whose; its network says how they are distributed.
        seed: Seed of the generator that draws them, >= 0.
    """
    rng = stream(seed, "initial weights")
    return {
        name: weight.init(weight.shape, rng).astype(np.float32)
        for name, weight in model.network.weights(model.config).items()
    }


def check_weights(model: Model, weights: Mapping[str, np.ndarray]) -> None:
    """Checks that `weights` are exactly those of the model, all of one floating-point dtype.

    Raises:
        WeightsError: A tensor is missing, unexpected, or of the wrong shape or dtype.
    """
    shapes = weight_shapes(model)
    problems = [f"{name} is missing" for name in shapes if name not in weights]
    problems += [f"{name} is not a weight of this model" for name in weights if name not in shapes]
    problems += [
        f"{name} has shape {list(weights[name].shape)}, expected {list(shape)}"
        for name, shape in shapes.items()
        if name in weights and weights[name].shape != shape
    ]
    dtypes = {str(tensor.dtype) for tensor in weights.values()}
    if not problems and dtypes not in ({"float32"}, {"float64"}):
        problems.append(f"dtypes are {sorted(dtypes)}, expected all float32 or all float64")
    if problems:
        raise WeightsError("weights do not fit the model: " + "; ".join(problems))
