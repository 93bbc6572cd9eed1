"""Fourier features in PyTorch; `flax_layer.py` is its twin."""

import math

import torch
from torch import nn

from models.layers.fourier_features.config import FourierFeaturesConfig


class FourierFeatures(nn.Module):
    """`[..., inputs]` to `[..., inputs + 2 num_frequencies]`: itself, its cosines and its sines.

    Angles are float32 or more, since of a large one a low precision has no digits left; what comes
    out has the input's dtype.
    """

    frequencies: torch.Tensor

    def __init__(self, config: FourierFeaturesConfig, inputs: int):
        super().__init__()
        frequencies = torch.zeros(config.num_frequencies, inputs)
        if config.learned:
            self.frequencies = nn.Parameter(frequencies)
        else:
            self.register_buffer("frequencies", frequencies)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        angles = 2 * math.pi * (wide @ self.frequencies.to(wide.dtype).T)
        return torch.cat([wide, torch.cos(angles), torch.sin(angles)], dim=-1).to(x.dtype)
