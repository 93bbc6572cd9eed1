"""The network of these tests in PyTorch; `flax_network.py` is its twin.

Shape suffixes:
  B = batch, T = tokens (seq_len), D = width, V = vocab_size
"""

import torch
from torch import nn

from kernels.attention.torch_op import attention
from models.context import Context
from models.layers.checkpointing.torch_layer import checkpointed
from models.layers.dropout.torch_layer import dropout, stochastic_depth
from models.layers.linear.torch_layer import Linear
from train.testing.sower.config import SowerConfig


class Block(nn.Module):
    """Attention of one head; it sows all that there is to sow."""

    def __init__(self, config: SowerConfig):
        super().__init__()
        self.config = config
        self.qkv = Linear(config.width, 3 * config.width, bias=False)
        self.proj = Linear(config.width, config.width)
        self.gain = nn.Parameter(torch.zeros(config.width))
        self.register_buffer("mean", torch.zeros(config.width))

    def forward(self, x_BTD: torch.Tensor, context: Context) -> torch.Tensor:
        q, k, v = self.qkv(x_BTD)[:, :, None].chunk(3, dim=-1)
        y_BTD = self.proj(attention(q, k, v, causal=True)[:, :, 0])
        y_BTD = y_BTD * self.gain.to(y_BTD.dtype)
        wide_BTD = y_BTD.float()
        context.sow_loss("size", 0.1 * (wide_BTD**2).mean())
        context.sow_metric("spread", wide_BTD.abs().mean())
        new = 0.9 * self.mean + 0.1 * wide_BTD.mean(dim=(0, 1))
        context.sown.statistics["block.mean"] = new.detach()
        y_BTD = y_BTD - self.mean.to(y_BTD.dtype)
        y_BTD = dropout(y_BTD, self.config.dropout_rate, context, "block")
        return x_BTD + stochastic_depth(
            y_BTD, self.config.stochastic_depth_rate, context, "block.depth"
        )


class Sower(nn.Module):
    """Tokens `[batch, seq_len]` to logits `[batch, seq_len, vocab_size]`."""

    def __init__(self, config: SowerConfig):
        super().__init__()
        self.tokens = nn.Parameter(torch.zeros(config.vocab_size, config.width))
        self.block = Block(config)
        self.head = Linear(config.width, config.vocab_size)

    def forward(self, tokens_BT: torch.Tensor, context: Context | None = None) -> torch.Tensor:
        context = context or Context()
        x_BTD = self.tokens[tokens_BT.long()]
        x_BTD = x_BTD.to(getattr(torch, context.dtype or "float32"))
        x_BTD = checkpointed(self.block, x_BTD, context)
        return self.head(x_BTD).to(self.tokens.dtype)
