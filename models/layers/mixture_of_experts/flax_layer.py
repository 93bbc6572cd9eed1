"""A mixture of experts in Flax; `torch_layer.py` is its twin.

Shape suffixes:
  B = batch, T = tokens of an example, D = width, E = experts, N = B * T
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from models.context import Context
from models.layers.dropout.flax_layer import uniform
from models.layers.feed_forward.config import FeedForwardConfig
from models.layers.feed_forward.flax_layer import FeedForward
from models.layers.linear.flax_layer import Linear
from models.layers.mixture_of_experts.config import MixtureConfig
from models.layers.mixture_of_experts.flax_experts import Experts
from models.layers.mixture_of_experts.flax_routing import jittered, noisy, route, scores, sow


class MixtureOfExperts(nnx.Module):
    """`[batch, ..., width]` to the same: tokens, pixels, or one vector an example.

    The router computes in float32 or more. Padding, where `context.segment_ids` are negative, gets
    zeros, takes no room, and is in no loss or metric; tokens that no expert takes get zeros of the
    experts that are not shared.
    """

    def __init__(self, config: MixtureConfig, expert: FeedForwardConfig, width: int, *, name: str):
        self.config, self.dropout_rate, self.name = config, expert.dropout_rate, name
        self.router = Linear(width, config.num_experts, bias=False)
        self.experts = Experts(expert, config.num_experts, width, name=f"{name}.experts")
        self.shared = nnx.List(
            FeedForward(expert, width, name=f"{name}.shared.{index}")
            for index in range(config.num_shared_experts)
        )

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        config = self.config
        x_BTD = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])
        batch, tokens, width = x_BTD.shape
        valid_BT = jnp.ones((batch, tokens), bool)
        if context.segment_ids is not None:
            valid_BT = context.segment_ids >= 0
        wide_BTD = x_BTD.astype(jnp.promote_types(x.dtype, jnp.float32))
        logits_BTE = self.router(jittered(wide_BTD, config.router_jitter, context, self.name))
        logits_BTE = noisy(logits_BTE, config.router_noise, context, self.name)
        scores_BTE = scores(logits_BTE, config)
        routing = route(logits_BTE, scores_BTE, valid_BT, config)
        sow(routing, logits_BTE, scores_BTE, valid_BT, config, context)
        room = batch * config.num_experts * int(config.capacities(tokens)[-1])
        asked = room if config.routing == "expert_choice" else batch * tokens * config.top_k
        y_ND = self.experts(
            x_BTD.reshape(-1, width),
            routing.gates.reshape(-1, config.num_experts),
            routing.kept.reshape(-1, config.num_experts),
            self._seeds(tokens, context),
            min(asked, room),
            context,
        )
        y_BTD = y_ND.reshape(x_BTD.shape)
        for shared in self.shared:
            y_BTD = y_BTD + shared(x_BTD, context)
        return jnp.where(valid_BT[..., None], y_BTD, 0.0).reshape(x.shape)

    def _seeds(self, tokens: int, context: Context) -> jax.Array | None:
        """Returns 24 bits for each token of the batch, if hidden units are to be dropped."""
        if not context.train or self.dropout_rate == 0.0:
            return None
        drawn_BT = uniform(context, f"{self.name}.experts", (tokens,))
        return (drawn_BT * 2**24).astype(jnp.uint32).reshape(-1)
