"""A mixture of experts as its papers say it: loops over examples, tokens and experts, in numpy."""

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from models.layers.feed_forward.config import FeedForwardConfig
from models.layers.mixture_of_experts.config import MixtureConfig
from models.testing.parity import Arrays


class Outcome(NamedTuple):
    """What a mixture of experts gives: `[batch, tokens, width]`, and losses and metrics by name."""

    output: np.ndarray
    report: dict[str, float]


def mixture_of_experts(
    weights: Arrays,
    x: np.ndarray,
    valid: np.ndarray,
    config: MixtureConfig,
    expert: FeedForwardConfig,
) -> Outcome:
    """Computes one in evaluation, of `x [batch, tokens, width]` where `valid [batch, tokens]`."""
    logits = x @ weights["router.weight"].T
    probabilities = (
        special.softmax(logits, axis=-1) if config.gate == "softmax" else special.expit(logits)
    )
    output = np.zeros_like(x)
    choices, kept = [], []
    for b in range(len(x)):
        tokens = [t for t in range(x.shape[1]) if valid[b, t]]
        share = config.top_k / config.num_experts
        room = (
            len(tokens)
            if config.capacity_factor is None
            else min(len(tokens), math.ceil(config.capacity_factor * len(tokens) * share - 1e-6))
        )
        queues = _queues(probabilities[b], tokens, room, config)
        for e, queue in enumerate(queues):
            choices += [(b, t, e) for t in queue]
            kept += [(b, t, e) for t in queue[:room]]
        for t in tokens:
            gates = {e: probabilities[b, t, e] for e, queue in enumerate(queues) if t in queue}
            total = sum(gates.values()) if config.normalize_gates else 1.0
            for e, gate in gates.items():
                if (b, t, e) in kept:
                    output[b, t] += gate / total * _expert(weights, f"experts.{e}", x[b, t], expert)
            for s in range(config.num_shared_experts):
                output[b, t] += _expert(weights, f"shared.{s}", x[b, t], expert)
    return Outcome(output, _report(config, valid, logits, probabilities, choices, kept))


def _queues(
    probabilities: np.ndarray, tokens: list[int], room: int, config: MixtureConfig
) -> list[list[int]]:
    """Returns the tokens that want to go to each expert, the first in front."""
    if config.routing == "expert_choice":
        return [
            sorted(tokens, key=lambda t: -probabilities[t, e])[:room]
            for e in range(config.num_experts)
        ]
    wanted = {t: np.argsort(-probabilities[t], kind="stable")[: config.top_k] for t in tokens}
    return [[t for t in tokens if e in wanted[t]] for e in range(config.num_experts)]


def _expert(weights: Arrays, name: str, x: np.ndarray, config: FeedForwardConfig) -> np.ndarray:
    """Computes one feed-forward of one token; `experts.3` is the fourth of those stacked."""
    group, index = name.split(".")

    def linear(layer: str, x: np.ndarray) -> np.ndarray:
        def of(leaf: str) -> np.ndarray:
            if group == "experts":
                return weights[f"experts.{layer}.{leaf}"][int(index)]
            return weights[f"{name}.{layer}.{leaf}"]

        return np.asarray(of("weight") @ x + (of("bias") if config.bias else 0.0))

    up = linear("fc1", x)
    if config.kind == "gated":
        return linear("fc2", _activate(linear("gate", x), config) * up)
    return linear("fc2", _activate(up, config))


def _activate(x: np.ndarray, config: FeedForwardConfig) -> np.ndarray:
    if config.activation == "silu":
        return np.asarray(x * special.expit(x))
    assert config.activation == "gelu"
    return np.asarray(x * special.ndtr(x))


def _report(
    config: MixtureConfig,
    valid: np.ndarray,
    logits: np.ndarray,
    probabilities: np.ndarray,
    choices: list[tuple[int, int, int]],
    kept: list[tuple[int, int, int]],
) -> dict[str, float]:
    loads = [sum(expert == e for _, _, expert in choices) for e in range(config.num_experts)]
    with_expert = {(b, t) for b, t, _ in kept}
    report = {
        "tokens_dropped": 1 - len(with_expert) / valid.sum(),
        "choices_dropped": 1 - len(kept) / len(choices),
        "expert_imbalance": max(loads) / (len(choices) / config.num_experts),
    }
    if config.load_balance_weight:
        mean = (probabilities / probabilities.sum(-1, keepdims=True))[valid].mean(axis=0)
        loss = config.num_experts * sum(
            load / len(choices) * share for load, share in zip(loads, mean, strict=True)
        )
        report["load_balance_loss"] = config.load_balance_weight * loss
    if config.router_z_weight:
        z = special.logsumexp(logits[valid], axis=-1) ** 2
        report["router_z_loss"] = config.router_z_weight * z.mean()
    return report
