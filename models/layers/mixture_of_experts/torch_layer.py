"""A mixture of experts in PyTorch; `flax_layer.py` is its twin.

Shape suffixes:
  B = batch, T = tokens of an example, D = width, E = experts, N = B * T
"""

import math

import torch
from torch import nn

from models.context import Context
from models.layers.dropout.torch_layer import uniform
from models.layers.feed_forward.config import FeedForwardConfig
from models.layers.feed_forward.torch_layer import FeedForward
from models.layers.linear.torch_layer import Linear
from models.layers.mixture_of_experts.config import MixtureConfig
from models.layers.mixture_of_experts.torch_experts import Experts
from models.layers.mixture_of_experts.torch_routing import jittered, noisy, route, scores, sow


class MixtureOfExperts(nn.Module):
    """`[batch, ..., width]` to the same: tokens, pixels, or one vector an example.

    The router computes in float32 or more. Padding, where `context.segment_ids` are negative, gets
    zeros, takes no room, and is in no loss or metric; tokens that no expert takes get zeros of the
    experts that are not shared.
    """

    def __init__(self, config: MixtureConfig, expert: FeedForwardConfig, width: int, *, name: str):
        super().__init__()
        self.config, self.dropout_rate, self.name = config, expert.dropout_rate, name
        self.router = Linear(width, config.num_experts, bias=False)
        self.experts = Experts(expert, config.num_experts, width, name=f"{name}.experts")
        self.shared = nn.ModuleList(
            FeedForward(expert, width, name=f"{name}.shared.{index}")
            for index in range(config.num_shared_experts)
        )

    def forward(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        config = self.config
        x_BTD = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])
        batch, tokens, width = x_BTD.shape
        valid_BT = torch.ones((batch, tokens), dtype=torch.bool, device=x.device)
        if context.segment_ids is not None:
            valid_BT = context.segment_ids >= 0
        wide_BTD = x_BTD.to(torch.promote_types(x.dtype, torch.float32))
        logits_BTE = self.router(jittered(wide_BTD, config.router_jitter, context, self.name))
        logits_BTE = noisy(logits_BTE, config.router_noise, context, self.name)
        scores_BTE = scores(logits_BTE, config)
        routing = route(logits_BTE, scores_BTE, valid_BT, config)
        sow(routing, logits_BTE, scores_BTE, valid_BT, config, context)
        y_ND = self.experts(
            x_BTD.reshape(-1, width),
            routing.gates.reshape(-1, config.num_experts),
            routing.kept.reshape(-1, config.num_experts),
            self._seeds(tokens, context),
            context,
        )
        y_BTD = y_ND.reshape(x_BTD.shape)
        for shared in self.shared:
            y_BTD = y_BTD + shared(x_BTD, context)
        return torch.where(valid_BT[..., None], y_BTD, 0.0).reshape(x.shape)

    def _seeds(self, tokens: int, context: Context) -> torch.Tensor | None:
        """Returns 24 bits for each token of the batch, if hidden units are to be dropped."""
        if not context.train or self.dropout_rate == 0.0:
            return None
        drawn_BT = uniform(context, f"{self.name}.experts", (tokens,))
        return (drawn_BT * 2**24).long().reshape(-1)
