"""A step of training as one would write it in PyTorch, with its fused AdamW, and in DeepSpeed."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from optim.adamw import AdamW
from train.config.schema import TrainConfig

# Makes logits of a module and a batch, as in training.
Apply = Callable[[nn.Module, torch.Tensor], torch.Tensor]

# Trains by inputs and targets, and returns the loss before and the accuracy.
Step = Callable[[Any, Any], tuple[torch.Tensor, torch.Tensor]]


def trainer(module: nn.Module, config: TrainConfig, apply: Apply = nn.Module.__call__) -> Step:
    """Returns what trains a module."""
    optimizer = _optimizer(module, config)
    max_grad_norm = config.optimizer.max_grad_norm

    def run(inputs: Any, targets: Any) -> tuple[torch.Tensor, torch.Tensor]:
        optimizer.zero_grad()
        logits, labels = apply(module, torch.from_numpy(inputs)), torch.from_numpy(targets)
        loss = _loss(logits, labels, config)
        loss.backward()
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), max_grad_norm)
        optimizer.step()
        return loss.detach(), _accuracy(logits, labels)

    return run


def deepspeed_trainer(module: nn.Module, config: TrainConfig) -> Step:
    """Returns what does so through DeepSpeed's engine, as its documentation has it."""
    import deepspeed  # not before `train.backends.deepspeed_backend` has said how

    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=_optimizer(module, config),
        config={
            "train_batch_size": config.data.global_batch_size,
            "gradient_clipping": config.optimizer.max_grad_norm or 0.0,
        },
    )

    def run(inputs: Any, targets: Any) -> tuple[torch.Tensor, torch.Tensor]:
        logits, labels = engine(torch.from_numpy(inputs)), torch.from_numpy(targets)
        loss = _loss(logits, labels, config)
        engine.backward(loss)
        engine.step()
        return loss.detach(), _accuracy(logits, labels)

    return run


def _optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    adamw = config.optimizer.algorithm
    assert isinstance(adamw, AdamW)
    params = list(module.parameters())
    groups = [
        {"params": [param for param in params if param.ndim > 1]},
        {"params": [param for param in params if param.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=adamw.learning_rate,
        betas=(adamw.beta1, adamw.beta2),
        eps=adamw.epsilon,
        weight_decay=adamw.weight_decay,
        fused=True,
    )


def _loss(logits: torch.Tensor, targets: torch.Tensor, config: TrainConfig) -> torch.Tensor:
    return F.cross_entropy(
        logits.flatten(0, -2),
        targets.flatten().long(),
        label_smoothing=config.loss.label_smoothing,
    )


def _accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(dim=-1) == labels).float().mean()
