"""A linear layer in PyTorch; `flax_layer.py` is its twin."""

import torch
import torch.nn.functional as F
from torch import nn


class Linear(nn.Module):
    """`[..., inputs]` to `[..., outputs]`, in the dtype of its input, to which weights are cast."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)
