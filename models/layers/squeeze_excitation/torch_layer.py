"""Squeeze-and-excitation in PyTorch; `flax_layer.py` is its twin.

Shape suffixes:
  B = batch, H = height, W = width, C = channels, S = squeezed channels
"""

import torch
from torch import nn

from models.layers.activation.torch_layer import ACTIVATIONS
from models.layers.linear.torch_layer import Linear
from models.layers.squeeze_excitation.config import SqueezeExcitationConfig


class SqueezeExcitation(nn.Module):
    """`[batch, height, width, channels]` to the same, each channel times a factor in [0, 1]."""

    def __init__(self, config: SqueezeExcitationConfig, channels: int):
        super().__init__()
        squeezed = config.squeezed(channels)
        self.activation, self.gate = ACTIVATIONS[config.activation], ACTIVATIONS[config.gate]
        self.fc1 = Linear(channels, squeezed)
        self.fc2 = Linear(squeezed, channels)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        mean_BC = x_BHWC.mean(dim=(1, 2))
        squeezed_BS = self.activation(self.fc1(mean_BC))
        factor_BC = self.gate(self.fc2(squeezed_BS))
        return x_BHWC * factor_BC[:, None, None]
