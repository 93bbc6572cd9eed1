"""Layer and RMS norm in PyTorch; `flax_layer.py` is its twin."""

import torch
import torch.nn.functional as F
from torch import nn

from models.layers.norm.config import NormConfig


class Norm(nn.Module):
    """`[..., width]` to the same, computed in float32 or more and returned in the input's dtype."""

    def __init__(self, config: NormConfig, width: int):
        super().__init__()
        self.kind, self.epsilon = config.kind, config.epsilon
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if config.kind == "layer" else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        weight = self.weight.to(wide.dtype)
        if self.bias is None:
            y = F.rms_norm(wide, weight.shape, weight, self.epsilon)
        else:
            y = F.layer_norm(wide, weight.shape, weight, self.bias.to(wide.dtype), self.epsilon)
        return y.to(x.dtype)
