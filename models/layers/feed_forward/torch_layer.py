"""The feed-forward layer of a block in PyTorch; `flax_layer.py` is its twin."""

import torch
from torch import nn

from models.context import Context
from models.layers.activation.torch_layer import ACTIVATIONS
from models.layers.dropout.torch_layer import dropout
from models.layers.feed_forward.config import FeedForwardConfig
from models.layers.linear.torch_layer import Linear


class FeedForward(nn.Module):
    """`[batch, ..., width]` to the same, each position by itself."""

    def __init__(self, config: FeedForwardConfig, width: int, *, name: str):
        super().__init__()
        self.activation, self.dropout_rate, self.name = config.activation, config.dropout_rate, name
        hidden = config.hidden(width)
        self.fc1 = Linear(width, hidden, bias=config.bias)
        self.gate = Linear(width, hidden, bias=config.bias) if config.kind == "gated" else None
        self.fc2 = Linear(hidden, width, bias=config.bias)

    def forward(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        activate = ACTIVATIONS[self.activation]
        hidden = self.fc1(x)
        hidden = activate(hidden) if self.gate is None else hidden * activate(self.gate(x))
        return self.fc2(dropout(hidden, self.dropout_rate, context, f"{self.name}.hidden"))
