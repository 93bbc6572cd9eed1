"""Which experts each token goes through, in JAX; `torch_routing.py` is its twin.

Reference: Shazeer et al., "Outrageously Large Neural Networks", https://arxiv.org/abs/1701.06538;
Fedus et al., "Switch Transformers", https://arxiv.org/abs/2101.03961, of capacity, jitter and the
loss of balance; Zoph et al., "ST-MoE", https://arxiv.org/abs/2202.08906, of the z-loss; Zhou et
al., "Mixture-of-Experts with Expert Choice Routing", https://arxiv.org/abs/2202.09368.

Shape suffixes:
  B = batch, T = tokens of an example, D = width, E = experts, K = top_k
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.context import Context
from models.layers.dropout.flax_layer import uniform
from models.layers.mixture_of_experts.config import MixtureConfig


class Routing(NamedTuple):
    """Where tokens go, `[B, T, E]` each.

    Attributes:
        gates: Weights of experts, 0 where a token does not go.
        chosen: Whether a token and an expert chose each other; nobody chooses padding.
        kept: Of these, those for which the expert has room.
    """

    gates: jax.Array
    chosen: jax.Array
    kept: jax.Array


def jittered(x_BTD: jax.Array, jitter: float, context: Context, name: str) -> jax.Array:
    """Multiplies by numbers uniform in `[1 - jitter, 1 + jitter)`; in training only."""
    if not context.train or jitter == 0.0:
        return x_BTD
    drawn = uniform(context, f"{name}.jitter", x_BTD.shape[1:]).astype(x_BTD.dtype)
    return x_BTD * (1 - jitter + 2 * jitter * drawn)


def noisy(logits_BTE: jax.Array, noise: float, context: Context, name: str) -> jax.Array:
    """Adds normal numbers of the deviation `noise`; in training only."""
    if not context.train or noise == 0.0:
        return logits_BTE
    drawn = uniform(context, f"{name}.noise", (*logits_BTE.shape[1:], 2)).astype(logits_BTE.dtype)
    # Box and Muller's; the logarithm is of numbers in (0, 1].
    normal = jnp.sqrt(-2 * jnp.log1p(-drawn[..., 0])) * jnp.cos(2 * math.pi * drawn[..., 1])
    return logits_BTE + noise * normal


def scores(logits_BTE: jax.Array, config: MixtureConfig) -> jax.Array:
    """Returns the weights that experts would have if a token went to all."""
    if config.gate == "sigmoid":
        return jax.nn.sigmoid(logits_BTE)
    return jax.nn.softmax(logits_BTE, axis=-1)


def route(
    logits_BTE: jax.Array, scores_BTE: jax.Array, valid_BT: jax.Array, config: MixtureConfig
) -> Routing:
    """Chooses; of equals the first, as torch's stable sort does."""
    capacity_B = jnp.asarray(config.capacities(valid_BT.shape[1]))[valid_BT.sum(axis=1)]
    if config.routing == "expert_choice":
        chosen_BTE = _chosen_by_experts(scores_BTE, valid_BT, capacity_B, config)
        kept_BTE = chosen_BTE
    else:
        _, experts_BTK = jax.lax.top_k(logits_BTE, config.top_k)
        chosen_BTE = (experts_BTK[..., None] == jnp.arange(config.num_experts)).any(axis=2)
        chosen_BTE &= valid_BT[..., None]
        place_BTE = jnp.cumsum(chosen_BTE, axis=1)  # in an expert's queue, from 1
        kept_BTE = chosen_BTE & (place_BTE <= capacity_B[:, None, None])
    gates_BTE = jnp.where(chosen_BTE, scores_BTE, 0.0)
    if config.normalize_gates:
        total_BT1 = gates_BTE.sum(axis=-1, keepdims=True)
        gates_BTE = gates_BTE / jnp.where(total_BT1 > 0, total_BT1, 1.0)
    return Routing(jnp.where(kept_BTE, gates_BTE, 0.0), chosen_BTE, kept_BTE)


def _chosen_by_experts(
    scores_BTE: jax.Array, valid_BT: jax.Array, capacity_B: jax.Array, config: MixtureConfig
) -> jax.Array:
    room = int(config.capacities(valid_BT.shape[1])[-1])
    scores_BET = jnp.where(valid_BT[:, None], scores_BTE.swapaxes(1, 2), -1.0)
    _, tokens_BEC = jax.lax.top_k(scores_BET, room)
    taken_BEC = jnp.broadcast_to(jnp.arange(room) < capacity_B[:, None, None], tokens_BEC.shape)

    def marked(tokens_C: jax.Array, taken_C: jax.Array) -> jax.Array:
        return jnp.zeros(valid_BT.shape[1], bool).at[tokens_C].set(taken_C)

    # Not jnp.put_along_axis, which has to know the size of the batch.
    chosen_BET = jax.vmap(jax.vmap(marked))(tokens_BEC, taken_BEC)
    return chosen_BET.swapaxes(1, 2)


def sow(
    routing: Routing,
    logits_BTE: jax.Array,
    scores_BTE: jax.Array,
    valid_BT: jax.Array,
    config: MixtureConfig,
    context: Context,
) -> None:
    """Leaves the losses and metrics of one layer: of all tokens of the batch but padding."""
    dtype = logits_BTE.dtype
    tokens = _at_least_one(valid_BT.sum().astype(dtype))
    asked_E = routing.chosen.sum(axis=(0, 1)).astype(dtype)
    asked = _at_least_one(asked_E.sum())
    if config.load_balance_weight:
        share_BTE = scores_BTE / scores_BTE.sum(axis=-1, keepdims=True)
        mean_E = jnp.where(valid_BT[..., None], share_BTE, 0.0).sum(axis=(0, 1)) / tokens
        balance = config.num_experts * (asked_E / asked * mean_E).sum()
        context.sow_loss("load_balance_loss", config.load_balance_weight * balance)
    if config.router_z_weight:
        z_BT = jnp.square(jax.nn.logsumexp(logits_BTE, axis=-1))
        mean = jnp.where(valid_BT, z_BT, 0.0).sum() / tokens
        context.sow_loss("router_z_loss", config.router_z_weight * mean)
    kept_BTE = routing.kept
    served, kept = kept_BTE.any(axis=-1).sum().astype(dtype), kept_BTE.sum().astype(dtype)
    # Differences first: 1 minus a quotient of equals may not be 0.
    context.sow_metric("tokens_dropped", (valid_BT.sum().astype(dtype) - served) / tokens)
    context.sow_metric("choices_dropped", (asked_E.sum() - kept) / asked)
    context.sow_metric("expert_imbalance", config.num_experts * asked_E.max() / asked)


def _at_least_one(count: jax.Array) -> jax.Array:
    return jnp.maximum(count, 1.0)
