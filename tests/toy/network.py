"""Multinomial logistic regression: the smallest network that there can be, in both frameworks."""

from typing import TYPE_CHECKING

from models.initializers import zeros
from models.layers.linear.weights import linear
from models.network import Network, Signature, TensorSpec, Weight, prefixed
from tests.toy.config import RegressionConfig

if TYPE_CHECKING:
    import torch
    from flax import nnx


def _signature(config: RegressionConfig) -> Signature:
    return Signature(
        TensorSpec("features", "float32", (config.num_features,)),
        TensorSpec("logits", "float32", (config.num_classes,)),
    )


def _weights(config: RegressionConfig) -> dict[str, Weight]:
    return prefixed("linear", linear(config.num_features, config.num_classes, init=zeros))


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
    weights=_weights,
    activations=lambda config: config.num_classes,
    size_keys=("num_features",),
    flax=_flax,
    torch=_torch,
)
