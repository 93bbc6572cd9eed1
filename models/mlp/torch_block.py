"""A block of a residual stack in PyTorch; `flax_block.py` is its twin."""

from collections.abc import Callable

import torch
from torch import nn

from models.context import Context
from models.layers.attention.torch_layer import Attention
from models.layers.dropout.torch_layer import dropout, stochastic_depth
from models.layers.feed_forward.torch_layer import FeedForward
from models.layers.mixture_of_experts.torch_layer import MixtureOfExperts
from models.layers.norm.torch_layer import Norm
from models.mlp.config import MlpConfig


class Block(nn.Module):
    """Tokens `[batch, seq_len, width]` to the same: a mixer, if there is one, and a feed-forward.

    Each is added to the tokens, whose norm is taken before or after.
    """

    def __init__(self, config: MlpConfig, index: int, width: int):
        super().__init__()
        self.config, self.name = config.block, f"blocks.{index}"
        self.depth_rate = config.block.stochastic_depth.of(index, config.total_blocks)
        mixes = config.mixer.kind != "none"
        self.mixer_norm = Norm(config.norm, width) if mixes else None
        self.mixer = _mixer(config, width, f"{self.name}.mixer") if mixes else None
        self.mixer_scale = _scale(config, width) if mixes else None
        self.feed_forward_norm = Norm(config.norm, width)
        self.feed_forward = _feed_forward(config, index, width, f"{self.name}.feed_forward")
        self.feed_forward_scale = _scale(config, width)

    def forward(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        if self.mixer is not None and self.mixer_norm is not None:
            x = self._add(self.mixer, self.mixer_norm, self.mixer_scale, "mixer", x, context)
        return self._add(
            self.feed_forward,
            self.feed_forward_norm,
            self.feed_forward_scale,
            "feed_forward",
            x,
            context,
        )

    def _add(
        self,
        layer: Callable[[torch.Tensor, Context], torch.Tensor],
        norm: Norm,
        scale: nn.Parameter | None,
        name: str,
        x: torch.Tensor,
        context: Context,
    ) -> torch.Tensor:
        """Returns `x` and what a branch adds to it."""
        before = self.config.norm_placement == "before"
        y = layer(norm(x) if before else x, context)
        y = y if scale is None else y * scale.to(y.dtype)
        y = dropout(y, self.config.dropout_rate, context, f"{self.name}.{name}.dropout")
        y = stochastic_depth(y, self.depth_rate, context, f"{self.name}.{name}.stochastic_depth")
        return x + y if before else norm(x + y)


def _mixer(config: MlpConfig, width: int, name: str) -> Attention:
    return Attention(config.mixer, config.positions, width, cache_len=config.seq_len, name=name)


def _feed_forward(
    config: MlpConfig, index: int, width: int, name: str
) -> FeedForward | MixtureOfExperts:
    experts = config.mixture_of_experts
    if experts is not None and config.has_experts(index):
        return MixtureOfExperts(experts, config.feed_forward, width, name=name)
    return FeedForward(config.feed_forward, width, name=name)


def _scale(config: MlpConfig, width: int) -> nn.Parameter | None:
    return None if config.block.layer_scale is None else nn.Parameter(torch.ones(width))
