"""Squeeze-and-excitation in Flax; `torch_layer.py` is its twin.

Shape suffixes:
  B = batch, H = height, W = width, C = channels, S = squeezed channels

Reference: Hu et al., "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507.
"""

import jax
from flax import nnx

from models.layers.activation.flax_layer import ACTIVATIONS
from models.layers.linear.flax_layer import Linear
from models.layers.squeeze_excitation.config import SqueezeExcitationConfig


class SqueezeExcitation(nnx.Module):
    """`[batch, height, width, channels]` to the same, each channel times a factor in [0, 1]."""

    def __init__(self, config: SqueezeExcitationConfig, channels: int):
        squeezed = config.squeezed(channels)
        self.activation, self.gate = ACTIVATIONS[config.activation], ACTIVATIONS[config.gate]
        self.fc1 = Linear(channels, squeezed)
        self.fc2 = Linear(squeezed, channels)

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        mean_BC = x_BHWC.mean(axis=(1, 2))
        squeezed_BS = self.activation(self.fc1(mean_BC))
        factor_BC = self.gate(self.fc2(squeezed_BS))
        return x_BHWC * factor_BC[:, None, None]
