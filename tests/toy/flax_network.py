"""The toy network in Flax."""

import jax
from flax import nnx

from tests.toy.config import RegressionConfig


class Regression(nnx.Module):
    """Features `[batch, num_features]` to logits `[batch, num_classes]`."""

    def __init__(self, config: RegressionConfig):
        self.linear = nnx.Linear(config.num_features, config.num_classes, rngs=nnx.Rngs(0))

    def __call__(self, features: jax.Array) -> jax.Array:
        return self.linear(features)
