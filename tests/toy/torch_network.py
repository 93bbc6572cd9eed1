"""The toy network in PyTorch."""

import torch
from torch import nn

from models.context import Context
from tests.toy.config import RegressionConfig


class Regression(nn.Module):
    """Features `[batch, num_features]` to logits `[batch, num_classes]`."""

    def __init__(self, config: RegressionConfig):
        super().__init__()
        self.linear = nn.Linear(config.num_features, config.num_classes)

    def forward(self, features: torch.Tensor, context: Context | None = None) -> torch.Tensor:
        return self.linear(features)
