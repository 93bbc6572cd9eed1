"""What a network is to those who train and serve it: one record, the same for every network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

import numpy as np

from base.config import Section
from models.initializers import Initializer, Shape

if TYPE_CHECKING:
    import torch
    from flax import nnx

Config = TypeVar("Config", bound=Section)

# What computes a network.
Framework = Literal["flax", "torch"]

# A batch of inputs to a batch of outputs, both in numpy.
Predict = Callable[[np.ndarray], np.ndarray]


class ExportError(ValueError):
    """A network that cannot be made a portable program; the message says what is in the way."""


class TensorSpec(NamedTuple):
    """A tensor that a network takes or gives.

    Attributes:
        name: What clients call it.
        dtype: NumPy's name of the type of its values, one that the Open Inference Protocol has.
        shape: Of one example; a batch has one dimension more, in front.
        limit: Integers are below it; None: any value that the type has.
    """

    name: str
    dtype: str
    shape: Shape
    limit: int | None = None


class Signature(NamedTuple):
    """What a network takes and what it gives, of one example."""

    input: TensorSpec
    output: TensorSpec


class Weight(NamedTuple):
    """One tensor of a network's weights.

    Attributes:
        shape: In PyTorch's layout: a linear layer holds `weight [out, in]` and `bias [out]`.
        init: Draws its first values.
        trainable: Whether gradients change it. What does not train is a statistic, such as the
            running mean of a batch norm, which the network tells anew in training, or a constant.
    """

    shape: Shape
    init: Initializer
    trainable: bool = True


# Of a network or a part of it, by canonical name: PyTorch's, such as "blocks.0.norm.weight".
Weights = Mapping[str, Weight]


def prefixed(name: str, weights: Weights) -> dict[str, Weight]:
    """Returns the weights of a part as those of the whole in which it has this name."""
    return {f"{name}.{inner}": weight for inner, weight in weights.items()}


@dataclass(frozen=True)
class Network(Generic[Config]):
    """One network, in both frameworks: a function of canonical weights, an input and a context.

    A module is called with a batch of inputs and, to train it, a `models.context.Context`, and
    returns a batch of outputs.

    Attributes:
        name: In configurations and artifacts, `model.architecture`.
        config: The section `model.config` of a configuration.
        signature: What it takes and gives.
        weights: Every weight by canonical name.
        activations: Number of values that training keeps of one example for the way back, at least.
        size_keys: The keys of the configuration that make it smaller when memory runs out.
        min_batch_size: Examples that it has to be given at once in training, at least.
        flax: Builds the Flax module, its weights not yet any good. Imports Flax.
        torch: Builds the PyTorch module, its weights not yet any good. Imports PyTorch.
    """

    name: str
    config: type[Config]
    signature: Callable[[Config], Signature]
    weights: Callable[[Config], Weights]
    activations: Callable[[Config], int]
    size_keys: tuple[str, ...]
    flax: Callable[[Config], "nnx.Module"]
    torch: Callable[[Config], "torch.nn.Module"]
    min_batch_size: Callable[[Config], int] = lambda _: 1
