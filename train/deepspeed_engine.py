"""Starts DeepSpeed's engine, on a CPU or a GPU, without its launcher."""

import os
import warnings

import numpy as np
import torch
from torch import distributed, nn

from models.torch.weights import to_canonical
from models.weights import Weights
from train.comm.wire import Wire
from train.config import TrainConfig
from train.data_parallel import compression_of

# Read by DeepSpeed while it is imported: without it, it probes the machine and logs a warning.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")

import deepspeed

from train.comm.torch import zero

# Deprecations inside DeepSpeed are its own business, and stage 3 would print one a collective.
warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)

# DeepSpeed compiles C++ for its shared-memory collectives at start-up, into the home directory,
# in about a minute. They serve multi-process inference; no training step calls them.
deepspeed.ops.__compatible_ops__ = {}


def start_engine(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    learning_rates: np.ndarray,
    config: TrainConfig,
) -> deepspeed.DeepSpeedEngine:
    """Wraps model and optimizer in an engine that partitions them as `config.zero` says.

    Collective: every rank of the process group, which must have been joined, calls it.

    Args:
        model: The network; moved to the engine's device.
        optimizer: Over the model's parameters, with a learning rate of 1.
        learning_rates: `[num_steps]`, the rate of each step.
        config: The run.

    Reference: Rajbhandari et al., "ZeRO", https://arxiv.org/abs/1910.02054.
    """
    batch_size = config.data.global_batch_size
    last = len(learning_rates) - 1

    def rate(step: int) -> float:
        return float(learning_rates[min(step, last)])  # asked once more after the last step

    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, rate),
        config={
            "train_batch_size": batch_size,
            "train_micro_batch_size_per_gpu": batch_size // distributed.get_world_size(),
            "zero_optimization": {"stage": config.zero.stage},
            "gradient_clipping": 0.0,  # left out, it would be 1.0
        },
    )
    return engine


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
