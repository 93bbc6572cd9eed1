"""Multinomial logistic regression: the smallest network that there can be, in both frameworks."""

from typing import TYPE_CHECKING

import numpy as np

from models.network import Network, Shape, Signature, TensorSpec
from tests.toy.config import RegressionConfig

if TYPE_CHECKING:
    import torch
    from flax import nnx


def _signature(config: RegressionConfig) -> Signature:
    return Signature(
        TensorSpec("features", "float32", (config.num_features,)),
        TensorSpec("logits", "float32", (config.num_classes,)),
    )


def _weight_shapes(config: RegressionConfig) -> dict[str, Shape]:
    return {
        "linear.weight": (config.num_classes, config.num_features),
        "linear.bias": (config.num_classes,),
    }


def _init_weight(name: str, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    return np.zeros(shape)


def _flax(config: RegressionConfig) -> "nnx.Module":
    from tests.toy.flax_network import Regression

    return Regression(config)


def _torch(config: RegressionConfig) -> "torch.nn.Module":
    from tests.toy.torch_network import Regression

    return Regression(config)


REGRESSION = Network(
    name="toy_regression",
    config=RegressionConfig,
    signature=_signature,
    weight_shapes=_weight_shapes,
    init_weight=_init_weight,
    activations=lambda config: config.num_classes,
    size_keys=("num_features",),
    flax=_flax,
    torch=_torch,
)
