"""PyTorch through DeepSpeed's engine, on a CPU or a GPU, without its launcher."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, SupportsFloat

import numpy as np
import torch
from torch import distributed, nn

from comm.wire import Wire
from models.context import Context
from models.network import Framework, Predict
from models.torch.predict import predict_fn
from models.torch.weights import from_canonical, to_canonical
from models.weights import Weights
from optim.torch.curvature import gauss_newton_bartlett
from optim.torch.optimizer import Optimizer, decay_groups
from train.backends.backend import StepResult
from train.config.schema import TrainConfig, ZeroConfig
from train.data_parallel import compression_of, rank_slice
from train.launch.process_group import mean_over_ranks
from train.recipe import Batch
from train.tasks.table import TASKS
from train.tasks.task import Objective

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


class DeepSpeedBackend:
    """See `Backend`; made by every rank of torch's default process group, which it has joined.

    Args:
        config: The run.
    """

    framework: Framework = "torch"
    libraries: tuple[str, ...] = ("torch", "deepspeed")

    def __init__(self, config: TrainConfig):
        self.rank, world_size = distributed.get_rank(), distributed.get_world_size()
        self.share = rank_slice(config, self.rank, world_size)
        self._config = config
        self._objective: Objective = TASKS[config.task].torch(config.loss)
        threads = config.torch.num_threads or max(1, torch.get_num_threads() // world_size)
        torch.set_num_threads(threads)

    @property
    def device(self) -> str:
        return str(self._engine.device)

    def start(self, weights: Weights) -> None:
        model = from_canonical(self._config.model, weights)
        self._optimizer = Optimizer(decay_groups(model), self._config.optimizer.algorithm)
        self._engine = _start_engine(model, self._optimizer, self._config)
        self._wire = _compress_gradients(self._engine, self._config)

    def step(self, batch: Batch, learning_rate: np.float32) -> StepResult:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = float(learning_rate)
        inputs, targets, noise, seeds = (
            None if array is None else torch.from_numpy(array).to(self._engine.device)
            for array in batch
        )
        shares, num_targets = self._shares(targets)
        if noise is not None:
            self._estimate_curvature(num_targets, inputs, seeds, shares, targets, noise)
        result, statistics = self._update(self._objective.loss, inputs, seeds, shares, targets)
        self._set_statistics(statistics)
        return result

    def fractions(self) -> Mapping[str, SupportsFloat]:
        return self._optimizer.fractions()

    def mean_over_ranks(self, values: np.ndarray) -> np.ndarray:
        return mean_over_ranks(values, self._engine.device)

    def weights(self) -> Weights:
        """Returns a copy of the weights, whole also where ZeRO partitions them; collective."""
        with deepspeed.zero.GatheredParameters(list(self._engine.module.parameters())):
            return to_canonical(self._engine.module)

    def predict_fn(self, weights: Weights) -> Predict:
        return predict_fn(self._config.model, weights)

    def sent(self, num_steps: int) -> Wire | None:
        return self._wire

    def _shares(self, targets: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Returns what each micro-batch's means count for, and the weight of all; collective.

        1 is the mean over the micro-batches of all ranks. So the mean of means, each times what it
        counts for, is the mean over the whole batch.
        """
        micro_batches = self._engine.gradient_accumulation_steps()
        weight = self._objective.weight
        if weight is None:
            return torch.ones(micro_batches), float(self._engine.train_batch_size())
        weights = torch.stack([weight(part) for part in targets.chunk(micro_batches)])
        total = weights.sum()
        distributed.all_reduce(total)
        parts = micro_batches * distributed.get_world_size()
        return weights * parts / total.clamp(min=1.0), float(total)

    def _update(
        self,
        loss_fn: Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor]]],
        *batch: torch.Tensor,
    ) -> tuple[StepResult, dict[str, torch.Tensor]]:
        """Updates once, from micro-batches whose gradients the engine accumulates; collective.

        Args:
            loss_fn: Of outputs, targets and what else there is of the batch.
            *batch: Inputs, seeds, what each micro-batch counts for, targets and what else there is.

        Returns:
            The result, and the statistics that the network sowed.
        """
        micro_batches = self._engine.gradient_accumulation_steps()
        results, statistics = [], []
        parts = (tensor.chunk(micro_batches) for tensor in batch)
        for inputs, seeds, share, *rest in zip(*parts, strict=True):
            context = Context(train=True, seeds=seeds)
            loss, metrics = loss_fn(self._engine(inputs, context), *rest)
            loss, *values = (mean * share[0] for mean in (loss, *metrics.values()))
            sown = context.sown
            self._engine.backward(loss + sown.loss)
            self._engine.step()  # after the last one
            metrics = dict(zip(metrics, values, strict=True))
            results.append({"loss": loss, **metrics, **sown.report})
            statistics.append(sown.statistics)
        means = _means(results)
        return StepResult(means.pop("loss"), means), _means(statistics)

    def _set_statistics(self, statistics: Mapping[str, torch.Tensor]) -> None:
        """Gives weights that do not train the mean of what every rank's batch says; collective."""
        for name, new in statistics.items():
            distributed.all_reduce(new)
            self._engine.module.get_buffer(name).copy_(new / distributed.get_world_size())

    def _estimate_curvature(self, num_targets: float, *batch: torch.Tensor) -> None:
        """Has the optimizer estimate the Hessian's diagonal, of targets the model would give.

        Args:
            num_targets: How many are drawn, on all ranks.
            *batch: As of `_update`, with noise at the end.
        """

        def sampled_loss(*args: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return self._objective.sampled_loss(*args), {}

        estimate = gauss_newton_bartlett(num_targets)
        with self._optimizer.estimating_curvature(estimate), _without_clipping(self._engine):
            self._update(sampled_loss, *batch)


def _start_engine(
    model: nn.Module,
    optimizer: Optimizer,
    config: TrainConfig,
) -> deepspeed.DeepSpeedEngine:
    """Wraps model and optimizer in an engine that partitions them as `config.zero` says.

    Collective: every rank of the process group, which must have been joined, calls it.

    Args:
        model: The network; moved to the engine's device.
        optimizer: Over the model's parameters.
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


def _means(results: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Returns the mean of each entry over several mappings with the same keys."""
    return {
        name: torch.stack([result[name].detach() for result in results]).mean(dim=0)
        for name in results[0]
    }


def _zero(config: ZeroConfig) -> dict[str, Any]:
    section: dict[str, Any] = {"stage": config.stage}
    if config.offload_optimizer:
        section["offload_optimizer"] = {"device": "cpu"}
    return section


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


def _compress_gradients(engine: deepspeed.DeepSpeedEngine, config: TrainConfig) -> Wire | None:
    """Has the engine exchange gradients as `config.gradient_compression` says; collective.

    Returns:
        What counts the bytes, or None if gradients are not compressed.
    """
    compression = compression_of(config)
    if compression is None:
        return None
    return zero.compress_gradients(engine, compression).wire
