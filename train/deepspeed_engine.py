"""Starts DeepSpeed's engine, on a CPU or a GPU, without its launcher."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import distributed, nn

from comm.wire import Wire
from models.torch.weights import to_canonical
from models.weights import Weights
from optim.torch.curvature import gauss_newton_bartlett, sample_labels
from optim.torch.optimizer import Optimizer
from train.config import TrainConfig, ZeroConfig
from train.data_parallel import compression_of

# Read by DeepSpeed while it is imported: without it, it probes the machine and logs a warning.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")

import deepspeed
from deepspeed.runtime.zero.utils import ZERO_SUPPORTED_OPTIMIZERS

from comm.torch import zero

# Deprecations inside DeepSpeed are its own business, and stage 3 would print one a collective.
warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)

# DeepSpeed compiles C++ for its shared-memory collectives at start-up, into the home directory,
# in about a minute. They serve multi-process inference; no training step calls them.
deepspeed.ops.__compatible_ops__ = {}

# It warns of optimizers that it does not know. Ours is tested under every stage.
ZERO_SUPPORTED_OPTIMIZERS.append(Optimizer)


def start_engine(
    model: nn.Module,
    optimizer: Optimizer,
    config: TrainConfig,
) -> deepspeed.DeepSpeedEngine:
    """Wraps model and optimizer in an engine that partitions them as `config.zero` says.

    Collective: every rank of the process group, which must have been joined, calls it.

    Args:
        model: The network; moved to the engine's device.
        optimizer: Over the model's parameters; see `set_learning_rate`.
        config: The run.

    Reference: Rajbhandari et al., "ZeRO", https://arxiv.org/abs/1910.02054.
    """
    batch_size, micro_batches = (
        config.data.global_batch_size,
        config.data.gradient_accumulation_steps,
    )
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        config={
            "train_batch_size": batch_size,
            "train_micro_batch_size_per_gpu": (
                batch_size // distributed.get_world_size() // micro_batches
            ),
            "gradient_accumulation_steps": micro_batches,
            "zero_optimization": _zero(config.zero),
            "zero_force_ds_cpu_optimizer": False,  # ours steps there as fast
            "gradient_clipping": config.optimizer.max_grad_norm or 0.0,  # left out, it would be 1.0
        },
    )
    return engine


def _zero(config: ZeroConfig) -> dict[str, Any]:
    section: dict[str, Any] = {"stage": config.stage}
    if config.offload_optimizer:
        section["offload_optimizer"] = {"device": "cpu"}
    return section


def set_learning_rate(engine: deepspeed.DeepSpeedEngine, rate: float) -> None:
    """Sets the rate of the next step, of all parameters."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def update(
    engine: deepspeed.DeepSpeedEngine,
    loss_fn: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    *batch: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Updates the weights once, from micro-batches whose gradients the engine accumulates.

    Collective: every rank calls it.

    Args:
        engine: What `loss_fn` calls.
        loss_fn: Of a micro-batch; gives the mean loss of its examples, and another mean.
        *batch: `[batch, ...]`, this rank's.

    Returns:
        The means over the batch, [] each, without gradients.
    """
    micro_batches = engine.gradient_accumulation_steps()
    results = []
    for micro_batch in zip(*(tensor.chunk(micro_batches) for tensor in batch), strict=True):
        loss, other = loss_fn(*micro_batch)
        engine.backward(loss)
        engine.step()  # after the last one
        results.append((loss.detach(), other.detach()))
    loss, other = (torch.stack(column).mean() for column in zip(*results, strict=True))
    return loss, other


def estimate_curvature(
    engine: deepspeed.DeepSpeedEngine,
    optimizer: Optimizer,
    images: torch.Tensor,
    noise: torch.Tensor,
) -> None:
    """Has Sophia estimate the Hessian's diagonal from labels drawn from the model's own outputs.

    Collective: every rank calls it.

    Args:
        engine: Of which `optimizer` is the client's.
        optimizer: Of Sophia.
        images: `[batch, ...]`, this rank's.
        noise: `[batch, num_classes]`, see `optim.torch.curvature.sample_labels`.
    """

    def sampled_loss_fn(
        images: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = engine(images)
        loss = F.cross_entropy(logits, sample_labels(logits, noise))
        return loss, loss

    estimate = gauss_newton_bartlett(engine.train_batch_size())
    with optimizer.estimating_curvature(estimate), _without_clipping(engine):
        update(engine, sampled_loss_fn, images, noise)


@contextmanager
def _without_clipping(engine: deepspeed.DeepSpeedEngine) -> Iterator[None]:
    """Leaves gradients as long as they are; what clips them, the engine or ZeRO's optimizer."""
    config, optimizer = engine._config, engine.optimizer
    limit = config.gradient_clipping
    config.gradient_clipping = optimizer.clip_grad = 0.0
    try:
        yield
    finally:
        config.gradient_clipping = optimizer.clip_grad = limit


def compress_gradients(engine: deepspeed.DeepSpeedEngine, config: TrainConfig) -> Wire | None:
    """Has the engine exchange gradients as `config.gradient_compression` says; collective.

    Returns:
        What counts the bytes, or None if gradients are not compressed.
    """
    compression = compression_of(config)
    if compression is None:
        return None
    return zero.compress_gradients(engine, compression).wire


def gather_weights(engine: deepspeed.DeepSpeedEngine) -> Weights:
    """Copies the canonical weights out of the engine, whole also where ZeRO partitions them.

    Collective: every rank calls it, and every rank gets them.
    """
    with deepspeed.zero.GatheredParameters(list(engine.module.parameters())):
        return to_canonical(engine.module)
