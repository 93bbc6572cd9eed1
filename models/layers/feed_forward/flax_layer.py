"""The feed-forward layer of a block in Flax; `torch_layer.py` is its twin.

Reference: Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762; Shazeer,
"GLU Variants Improve Transformer", https://arxiv.org/abs/2002.05202.
"""

import jax
from flax import nnx

from models.context import Context
from models.layers.activation.flax_layer import ACTIVATIONS
from models.layers.dropout.flax_layer import dropout
from models.layers.feed_forward.config import FeedForwardConfig
from models.layers.linear.flax_layer import Linear


class FeedForward(nnx.Module):
    """`[batch, ..., width]` to the same, each position by itself."""

    def __init__(self, config: FeedForwardConfig, width: int, *, name: str):
        self.activation, self.dropout_rate, self.name = config.activation, config.dropout_rate, name
        hidden = config.hidden(width)
        self.fc1 = Linear(width, hidden, bias=config.bias)
        self.gate = Linear(width, hidden, bias=config.bias) if config.kind == "gated" else None
        self.fc2 = Linear(hidden, width, bias=config.bias)

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        activate = ACTIVATIONS[self.activation]
        hidden = self.fc1(x)
        hidden = activate(hidden) if self.gate is None else hidden * activate(self.gate(x))
        return self.fc2(dropout(hidden, self.dropout_rate, context, f"{self.name}.hidden"))
