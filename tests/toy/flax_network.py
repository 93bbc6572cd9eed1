"""The toy network in Flax."""

import jax
from flax import nnx

from models.context import Context
from models.layers.linear.flax_layer import Linear
from tests.toy.config import RegressionConfig


class Regression(nnx.Module):
    """Features `[batch, num_features]` to logits `[batch, num_classes]`."""

    def __init__(self, config: RegressionConfig):
        self.linear = Linear(config.num_features, config.num_classes)

    def __call__(self, features: jax.Array, context: Context | None = None) -> jax.Array:
        return self.linear(features)
