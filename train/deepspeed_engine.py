"""Starts DeepSpeed's engine in this one process, on a CPU or a GPU, without a launcher."""

import os
import warnings

import numpy as np
import torch
from torch import distributed, nn

from models.torch.weights import to_canonical
from models.weights import Weights
from train.config import ConfigError, TrainConfig

# Read by DeepSpeed while it is imported: without it, it probes the machine and logs a warning.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")

import deepspeed

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
    """Wraps model and optimizer in an engine that partitions them as `config.torch` says.

    Args:
        model: The network; moved to the engine's device.
        optimizer: Over the model's parameters, with a learning rate of 1.
        learning_rates: `[num_steps]`, the rate of each step.
        config: The run.

    Raises:
        ConfigError: A launcher started several processes; only one is supported.

    Reference: Rajbhandari et al., "ZeRO", https://arxiv.org/abs/1910.02054.
    """
    _join_world_of_one()
    last = len(learning_rates) - 1

    def rate(step: int) -> float:
        return float(learning_rates[min(step, last)])  # asked once more after the last step

    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, rate),
        config={
            "train_batch_size": config.data.global_batch_size,
            "zero_optimization": {"stage": config.torch.zero_stage},
            "gradient_clipping": 0.0,  # left out, it would be 1.0
        },
    )
    return engine


def gather_weights(engine: deepspeed.DeepSpeedEngine) -> Weights:
    """Copies the canonical weights out of the engine, whole also where ZeRO partitions them."""
    with deepspeed.zero.GatheredParameters(list(engine.module.parameters())):
        return to_canonical(engine.module)


def _join_world_of_one() -> None:
    world_size = os.environ.get("WORLD_SIZE", "1")
    if world_size != "1":
        raise ConfigError(
            f"WORLD_SIZE is {world_size}, but this trainer is one process; start it without a "
            "distributed launcher"
        )
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed insists on it
    if distributed.is_initialized():
        return
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host name may not resolve in a sandbox
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    # An in-memory store needs no port, so that runs on one machine cannot collide.
    distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1)
