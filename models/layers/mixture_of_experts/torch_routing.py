"""Which experts each token goes through, in PyTorch; `flax_routing.py` is its twin.

Shape suffixes:
  B = batch, T = tokens of an example, D = width, E = experts, K = top_k
"""

import math
from typing import NamedTuple

import torch

from models.context import Context
from models.layers.dropout.torch_layer import uniform
from models.layers.mixture_of_experts.config import MixtureConfig


class Routing(NamedTuple):
    """Where tokens go, `[B, T, E]` each.

    Attributes:
        gates: Weights of experts, 0 where a token does not go.
        chosen: Whether a token and an expert chose each other; nobody chooses padding.
        kept: Of these, those for which the expert has room.
    """

    gates: torch.Tensor
    chosen: torch.Tensor
    kept: torch.Tensor


def jittered(x_BTD: torch.Tensor, jitter: float, context: Context, name: str) -> torch.Tensor:
    """Multiplies by numbers uniform in `[1 - jitter, 1 + jitter)`; in training only."""
    if not context.train or jitter == 0.0:
        return x_BTD
    drawn = uniform(context, f"{name}.jitter", tuple(x_BTD.shape[1:])).to(x_BTD.dtype)
    return x_BTD * (1 - jitter + 2 * jitter * drawn)


def noisy(logits_BTE: torch.Tensor, noise: float, context: Context, name: str) -> torch.Tensor:
    """Adds normal numbers of the deviation `noise`; in training only."""
    if not context.train or noise == 0.0:
        return logits_BTE
    drawn = uniform(context, f"{name}.noise", (*logits_BTE.shape[1:], 2)).to(logits_BTE.dtype)
    # Box and Muller's; the logarithm is of numbers in (0, 1].
    normal = torch.sqrt(-2 * torch.log1p(-drawn[..., 0])) * torch.cos(2 * math.pi * drawn[..., 1])
    return logits_BTE + noise * normal


def scores(logits_BTE: torch.Tensor, config: MixtureConfig) -> torch.Tensor:
    """Returns the weights that experts would have if a token went to all."""
    if config.gate == "sigmoid":
        return torch.sigmoid(logits_BTE)
    return torch.softmax(logits_BTE, dim=-1)


def route(
    logits_BTE: torch.Tensor,
    scores_BTE: torch.Tensor,
    valid_BT: torch.Tensor,
    config: MixtureConfig,
) -> Routing:
    """Chooses; of equals the first, as `jax.lax.top_k` does."""
    capacities = torch.tensor(config.capacities(valid_BT.shape[1]), device=valid_BT.device)
    capacity_B = capacities[valid_BT.sum(dim=1)]
    if config.routing == "expert_choice":
        chosen_BTE = _chosen_by_experts(scores_BTE, valid_BT, capacity_B, config)
        kept_BTE = chosen_BTE
    else:
        experts_BTK = _top_k(logits_BTE, config.top_k)
        experts_E = torch.arange(config.num_experts, device=logits_BTE.device)
        chosen_BTE = (experts_BTK[..., None] == experts_E).any(dim=2)
        chosen_BTE &= valid_BT[..., None]
        place_BTE = torch.cumsum(chosen_BTE, dim=1)  # in an expert's queue, from 1
        kept_BTE = chosen_BTE & (place_BTE <= capacity_B[:, None, None])
    gates_BTE = torch.where(chosen_BTE, scores_BTE, 0.0)
    if config.normalize_gates:
        total_BT1 = gates_BTE.sum(dim=-1, keepdim=True)
        gates_BTE = gates_BTE / torch.where(total_BT1 > 0, total_BT1, 1.0)
    return Routing(torch.where(kept_BTE, gates_BTE, 0.0), chosen_BTE, kept_BTE)


def _chosen_by_experts(
    scores_BTE: torch.Tensor,
    valid_BT: torch.Tensor,
    capacity_B: torch.Tensor,
    config: MixtureConfig,
) -> torch.Tensor:
    room = int(config.capacities(valid_BT.shape[1])[-1])
    scores_BET = torch.where(valid_BT[:, None], scores_BTE.transpose(1, 2), -1.0)
    tokens_BEC = _top_k(scores_BET, room)
    places = torch.arange(room, device=valid_BT.device)
    taken_BEC = (places < capacity_B[:, None, None]).expand_as(tokens_BEC)
    chosen_BET = torch.zeros_like(scores_BET, dtype=torch.bool).scatter(2, tokens_BEC, taken_BEC)
    return chosen_BET.transpose(1, 2)


def _top_k(values: torch.Tensor, count: int) -> torch.Tensor:
    # torch.topk says nothing of equals.
    return values.argsort(dim=-1, descending=True, stable=True)[..., :count]


def sow(
    routing: Routing,
    logits_BTE: torch.Tensor,
    scores_BTE: torch.Tensor,
    valid_BT: torch.Tensor,
    config: MixtureConfig,
    context: Context,
) -> None:
    """Leaves the losses and metrics of one layer: of all tokens of the batch but padding."""
    dtype = logits_BTE.dtype
    tokens = _at_least_one(valid_BT.sum().to(dtype))
    asked_E = routing.chosen.sum(dim=(0, 1)).to(dtype)
    asked = _at_least_one(asked_E.sum())
    if config.load_balance_weight:
        share_BTE = scores_BTE / scores_BTE.sum(dim=-1, keepdim=True)
        mean_E = torch.where(valid_BT[..., None], share_BTE, 0.0).sum(dim=(0, 1)) / tokens
        balance = config.num_experts * (asked_E / asked * mean_E).sum()
        context.sow_loss("load_balance_loss", config.load_balance_weight * balance)
    if config.router_z_weight:
        z_BT = torch.square(torch.logsumexp(logits_BTE, dim=-1))
        mean = torch.where(valid_BT, z_BT, 0.0).sum() / tokens
        context.sow_loss("router_z_loss", config.router_z_weight * mean)
    kept_BTE = routing.kept
    served, kept = kept_BTE.any(dim=-1).sum().to(dtype), kept_BTE.sum().to(dtype)
    # Differences first: 1 minus a quotient of equals may not be 0.
    context.sow_metric("tokens_dropped", (valid_BT.sum().to(dtype) - served) / tokens)
    context.sow_metric("choices_dropped", (asked_E.sum() - kept) / asked)
    context.sow_metric("expert_imbalance", config.num_experts * asked_E.max() / asked)


def _at_least_one(count: torch.Tensor) -> torch.Tensor:
    return torch.clamp(count, min=1.0)
