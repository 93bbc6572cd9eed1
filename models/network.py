"""What a network is to those who train and serve it: one record, the same for every network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

import numpy as np

from base.config import Section

if TYPE_CHECKING:
    import torch
    from flax import nnx

Config = TypeVar("Config", bound=Section)

# What computes a network.
Framework = Literal["flax", "torch"]

Shape = tuple[int, ...]

# A batch of inputs to a batch of outputs, both in numpy.
Predict = Callable[[np.ndarray], np.ndarray]


class TensorSpec(NamedTuple):
    """A tensor that a network takes or gives.

    Attributes:
        name: What clients call it.
        dtype: NumPy's name of the type of its values, one that the Open Inference Protocol has.
        shape: Of one example; a batch has one dimension more, in front.
    """

    name: str
    dtype: str
    shape: Shape


class Signature(NamedTuple):
    """What a network takes and what it gives, of one example."""

    input: TensorSpec
    output: TensorSpec


@dataclass(frozen=True)
class Network(Generic[Config]):
    """One network, in both frameworks: a function of canonical weights and an input.

    Attributes:
        name: In configurations and artifacts, `model.architecture`.
        config: The section `model.config` of a configuration.
        signature: What it takes and gives.
        weight_shapes: The shape of every weight by canonical name: PyTorch's names and layouts, a
            linear layer holds `weight [out, in]` and `bias [out]`.
        init_weight: Draws the first values of the weight of a name and a shape, float64.
        activations: Number of values that training keeps of one example for the way back, at least.
        size_keys: The keys of the configuration that make it smaller when memory runs out.
        flax: Builds the Flax module, its weights not yet any good. Imports Flax.
        torch: Builds the PyTorch module, its weights not yet any good. Imports PyTorch.
    """

    name: str
    config: type[Config]
    signature: Callable[[Config], Signature]
    weight_shapes: Callable[[Config], Mapping[str, Shape]]
    init_weight: Callable[[str, Shape, np.random.Generator], np.ndarray]
    activations: Callable[[Config], int]
    size_keys: tuple[str, ...]
    flax: Callable[[Config], "nnx.Module"]
    torch: Callable[[Config], "torch.nn.Module"]
