"""Gradient checkpointing in PyTorch; `flax_layer.py` is its twin."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from models.context import Context, Sown

# What a block is: a function of a tensor `[batch, ...]` and a context.
Block = Callable[[torch.Tensor, Context], torch.Tensor]

# The operators whose results the policy "attention" keeps.
_ATTENTION = frozenset({"hpc::attention_forward", "hpc::linear_attention_forward"})


def checkpointed(block: Block, x: torch.Tensor, context: Context) -> torch.Tensor:
    """Returns `block(x, context)`, of which the way back keeps what `context.checkpointing` says.

    Reference: Chen et al., "Training Deep Nets with Sublinear Memory Cost",
    https://arxiv.org/abs/1604.06174.
    """
    if context.checkpointing == "none" or not context.train:
        return block(x, context)

    def run(x: torch.Tensor) -> tuple[torch.Tensor, Sown]:
        sown = Sown.nothing()
        return block(x, dataclasses.replace(context, sown=sown)), sown

    options: dict[str, Any] = {}
    if context.checkpointing == "attention":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    # What is drawn at random does not depend on torch's generators.
    y, sown = checkpoint(run, x, use_reentrant=False, preserve_rng_state=False, **options)
    context.sown.add(sown)
    return y


def _policy(ctx: object, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    kept = isinstance(op, torch._ops.OpOverload) and op.name() in _ATTENTION
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
