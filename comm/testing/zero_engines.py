"""Small models in DeepSpeed engines, for tests of its compressed gradients.

Importing this makes DeepSpeed start on the CPU without compiling or probing anything.
"""

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"

import deepspeed
import numpy as np
import torch
from torch import nn

from comm.compression import Compression
from comm.testing import ranks
from comm.torch.zero import ZeroCompression, compress_gradients

# DeepSpeed compiles C++ for its shared-memory collectives at start-up; no training step needs it.
deepspeed.ops.__compatible_ops__ = {}

STAGES = (0, 1, 2, 3)

# Pieces of 16384 values, so that the largest parameter lies in several.
COMPRESSION = Compression(bucket_bytes=64 * 1024)


def preload() -> None:
    """Makes test processes start from one that has imported DeepSpeed, which takes seconds."""
    ranks.preload(__name__)


class Dot(nn.Module):
    """Parameters whose gradient is the input: the loss is their dot product with it."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Starts at zero."""
        super().__init__()
        self.weights = nn.ParameterList(torch.zeros(shape) for shape in shapes)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Returns the sum over all parameters."""
        return sum((w * x).sum() for w, x in zip(self.weights, inputs, strict=True))


def classifier(num_features: int = 64, num_classes: int = 10) -> nn.Module:
    """Returns a residual network with weights of which some lie in several partitions."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(num_features, 256),
        nn.GELU(),
        nn.LayerNorm(256),
        nn.Linear(256, 230),
        nn.GELU(),
        nn.Linear(230, num_classes),
    )


def start(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rank: int,
    world_size: int,
    stage: int,
    config: dict[str, Any] | None = None,
) -> deepspeed.DeepSpeedEngine:
    """Wraps a model in an engine over the default process group."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank))
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    given = dict(config or {})
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0, **given.pop("zero", {})}
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        config={
            "train_micro_batch_size_per_gpu": 1,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "gradient_clipping": 0.0,
            **given,
        },
    )
    return engine


def weights(engine: deepspeed.DeepSpeedEngine) -> list[np.ndarray]:
    """Returns all parameters, whole, in float32."""
    params = list(engine.module.parameters())
    with deepspeed.zero.GatheredParameters(params):
        return [param.detach().float().numpy().copy() for param in params]


def train(
    engine: deepspeed.DeepSpeedEngine, rank: int, num_steps: int, *, first_step: int = 0
) -> list[float]:
    """Trains the classifier on random teacher labels; returns the loss of each micro-batch."""
    dtype = next(engine.module.parameters()).dtype
    micro_batches = engine.gradient_accumulation_steps()
    teacher = torch.randn(64, 10, generator=torch.Generator().manual_seed(7))
    losses = []
    for i in range(first_step * micro_batches, (first_step + num_steps) * micro_batches):
        x = torch.randn(16, 64, generator=torch.Generator().manual_seed(1000 * i + rank))
        loss = nn.functional.cross_entropy(engine(x.to(dtype)).float(), (x @ teacher).argmax(-1))
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    return losses


def compressed(
    engine: deepspeed.DeepSpeedEngine, compression: Compression = COMPRESSION
) -> ZeroCompression:
    """Compresses an engine's gradients."""
    return compress_gradients(engine, compression)
