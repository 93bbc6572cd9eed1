"""PyTorch through DeepSpeed's engine, on a CPU or a GPU, without its launcher."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple, SupportsFloat, TypeAlias

import numpy as np
import torch
from torch import distributed, nn

from base.memory import peak_resident_bytes
from comm.wire import Wire
from models.network import Framework, Predict
from models.torch.predict import predict_fn
from models.torch.weights import from_canonical
from models.weights import Weights, decaying_weights
from optim.torch.curvature import gauss_newton_bartlett
from optim.torch.optimizer import Optimizer, decay_groups
from train.backends.backend import StepResult, Value
from train.backends.torch_average import MovingAverage
from train.backends.torch_loss_scale import LossScaler
from train.backends.torch_trace import trace
from train.config.schema import TrainConfig
from train.data_parallel import compression_of, rank_slice
from train.events import PeakMemory
from train.launch.heartbeat import beat
from train.launch.process_group import mean_over_ranks, object_of_first_rank, of_first_rank
from train.recipe import Batch, StepScalars, context_of
from train.tasks.table import TASKS
from train.tasks.task import Objective

# Read by DeepSpeed while it is imported: without it, it probes the machine and logs a warning.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")

import deepspeed

from comm.torch import zero
from comm.torch.feedback import Feedback
from train.backends.torch_checkpoint import EngineCheckpoints
from train.backends.torch_engine import (
    clipping_values,
    offload_files,
    start_engine,
    without_clipping,
)
from train.backends.torch_partitions import whole_weights

# What each micro-batch's means count for; None: as much as any other's.
_Shares: TypeAlias = Sequence[torch.Tensor | None]


class _Update(NamedTuple):
    """What an update gave, on this rank.

    Attributes:
        means: Of the micro-batches: "loss", and metrics by name.
        statistics: That the network sowed, likewise.
        is_finite: Whether all ranks' gradients were finite.
        is_made: Whether the update was not skipped, for that or another reason.
        gradient_norm: Of all, before they were clipped; None: it was not asked for.
    """

    means: dict[str, torch.Tensor]
    statistics: dict[str, torch.Tensor]
    is_finite: bool
    is_made: bool
    gradient_norm: float | None


class DeepSpeedBackend:
    """See `Backend`; made by every rank of torch's default process group, which it has joined.

    Args:
        config: The run.

    Raises:
        ConfigError: What is offloaded cannot be kept where it is to be.
    """

    framework: Framework = "torch"
    libraries: tuple[str, ...] = ("torch", "deepspeed")

    def __init__(self, config: TrainConfig):
        self.rank, self.world_size = distributed.get_rank(), distributed.get_world_size()
        self.share = rank_slice(config, self.rank, self.world_size)
        self._config = config
        self._objective: Objective = TASKS[config.task].torch(config.loss)
        threads = config.torch.num_threads or max(1, torch.get_num_threads() // self.world_size)
        torch.set_num_threads(threads)
        _be_deterministic(config.run.deterministic)
        self._closing = ExitStack()
        self._files = self._closing.enter_context(offload_files(config))

    def close(self) -> None:
        """Removes what it keeps in files while it trains; it does not train again."""
        self._closing.close()

    @property
    def device(self) -> str:
        return str(self._engine.device)

    @property
    def num_threads(self) -> int:
        return torch.get_num_threads()

    def start(self, weights: Weights) -> None:
        model = from_canonical(self._config.model, weights)
        groups = decay_groups(model, decaying_weights(self._config.model))
        name_of = {param: name for name, param in model.named_parameters()}
        names = [name_of[param] for group in groups for param in group["params"]]
        self._optimizer = Optimizer(groups, self._config.optimizer.algorithm)
        self._has_stepped = False
        self._weight_decays = [group["weight_decay"] for group in self._optimizer.param_groups]
        self._engine = start_engine(model, self._optimizer, self._config, self._files)
        self._statistics = dict(self._engine.module.named_buffers())
        self._average = None
        if self._config.ema.decay is not None:
            self._average = MovingAverage(self._engine.module)
        self._compression = _compress_gradients(self._engine, self._config)
        self._checkpoints = EngineCheckpoints(
            self._engine, self._optimizer, names, self._compression
        )
        precision, self._scaler = self._config.precision, None
        if precision.scales_loss or self._config.callbacks.watch.skips:
            self._scaler = LossScaler(
                self._engine.module,
                precision.loss_scaling if precision.scales_loss else None,
                self._engine.gradient_accumulation_steps(),
            )

    def step(self, batch: Batch, scalars: StepScalars) -> StepResult:
        groups = self._engine.optimizer.param_groups
        for group, weight_decay in zip(groups, self._weight_decays, strict=True):
            group["lr"] = float(scalars.learning_rate)
            group["weight_decay"] = weight_decay * float(scalars.weight_decay_scale)
        inputs, targets, noise, seeds = (
            None if array is None else torch.from_numpy(array).to(self._engine.device)
            for array in batch
        )
        shares, num_targets = self._shares(targets)
        given, is_wanted = (shares, inputs, seeds, targets), True
        if noise is not None:
            is_wanted = self._estimate_curvature(scalars, num_targets, *given, noise)
        loss_fn = self._objective.loss
        with clipping_values(self._optimizer, self._config.optimizer.max_grad_value):
            limit = scalars.loss_limit if self._config.callbacks.watch.skips else None
            update = self._update(loss_fn, scalars, *given, is_wanted=is_wanted, limit=limit)
        if update.is_made:
            self._has_stepped = True
            self._set_statistics(update.statistics)
            if self._average is not None:
                self._average.move(float(scalars.average_rate))
        loss, metrics = update.means.pop("loss"), update.means
        if self._scaler is not None:
            metrics["skipped"] = torch.tensor(float(not update.is_made))
            metrics |= self._scaler.move(update.is_finite)
        if update.gradient_norm is not None:
            metrics["gradient_norm"] = torch.tensor(update.gradient_norm)
        return StepResult(loss, metrics)

    def fractions(self) -> Mapping[str, SupportsFloat]:
        return self._optimizer.fractions() if self._has_stepped else {}

    def mean_over_ranks(self, values: np.ndarray) -> np.ndarray:
        return mean_over_ranks(values, self._engine.device)

    def of_first_rank(self, value: int) -> int:
        return of_first_rank(value)

    def object_of_first_rank(self, value: Value) -> Value:
        return object_of_first_rank(value)

    def save(self, directory: Path) -> Callable[[], None]:
        scale = None if self._scaler is None else self._scaler.state
        average = None if self._average is None else self._average.state
        own = {"loss_scale": scale, "has_stepped": self._has_stepped, "average": average}
        return self._checkpoints.save(directory, own)

    def load(self, directory: Path) -> None:
        own, written = self._checkpoints.load(directory)
        self._has_stepped = own["has_stepped"]
        if self._scaler is not None:
            self._scaler.state = own["loss_scale"]
        if self._average is not None and written is not None:
            self._average.take_whole(written.average(self._average.names))
        elif self._average is not None:
            self._average.state = own["average"]

    def weights(self) -> Weights:
        if self._average is not None:
            return self._average.weights()
        return whole_weights(self._engine.module)

    def digests(self) -> list[str]:
        sha256 = hashlib.sha256()
        for tensor in self._engine.module.state_dict().values():
            sha256.update(tensor.cpu().contiguous().view(torch.uint8).numpy())
        found = [""] * self.world_size
        distributed.all_gather_object(found, sha256.hexdigest())
        return found

    def wait(self) -> None:
        if self._engine.device.type == "cuda":
            torch.cuda.synchronize(self._engine.device)

    def peak_memory(self) -> PeakMemory:
        device = self._engine.device
        has_own = device.type == "cuda"
        own = torch.cuda.max_memory_allocated(device) if has_own else 0
        most = torch.tensor([peak_resident_bytes(), own], device=device)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        of_host, of_device = most.tolist()
        return PeakMemory(of_host, of_device if has_own else None)

    def trace(self, directory: Path) -> AbstractContextManager[None]:
        return trace(directory)

    def predict_fn(self, weights: Weights) -> Predict:
        return predict_fn(self._config.model, weights)

    def sent(self, num_steps: int) -> Wire | None:
        return None if self._compression is None else self._compression.wire

    def _shares(self, targets: torch.Tensor) -> tuple[_Shares, float]:
        """Returns what each micro-batch's means count for, and the weight of all; collective.

        1 is the mean over the micro-batches of all ranks. So the mean of means, each times what it
        counts for, is the mean over the whole batch. None: all count alike.
        """
        micro_batches = self._engine.gradient_accumulation_steps()
        weight = self._objective.weight
        if weight is None:
            return [None] * micro_batches, float(self._engine.train_batch_size())
        weights = torch.stack([weight(part) for part in targets.chunk(micro_batches)])
        total = weights.sum()
        distributed.all_reduce(total)
        parts = micro_batches * distributed.get_world_size()
        return (weights * parts / total.clamp(min=1.0)).unbind(), float(total)

    def _update(
        self,
        loss_fn: Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor]]],
        scalars: StepScalars,
        shares: _Shares,
        *batch: torch.Tensor,
        is_wanted: bool = True,
        limit: np.float32 | None = None,
    ) -> _Update:
        """Updates once, from micro-batches whose gradients the engine accumulates; collective.

        Args:
            loss_fn: Of outputs, targets and what else there is of the batch.
            scalars: Of the step.
            shares: What each micro-batch's means count for.
            *batch: Inputs, seeds, targets and what else there is.
            is_wanted: Whether weights may change.
            limit: The greatest loss with which they may; None: they may with any.
        """
        micro_batches = self._engine.gradient_accumulation_steps()
        results, statistics, norm = [], [], None
        is_finite = is_made = True
        residuals = self._copy_residuals()
        parts = (tensor.chunk(micro_batches) for tensor in batch)
        in_turn = zip(shares, *parts, strict=True)
        for number, (share, inputs, seeds, *rest) in enumerate(in_turn, start=1):
            context = context_of(self._config, seeds, scalars)
            beat()
            loss, metrics = loss_fn(self._engine(inputs, context), *rest)
            means = {"loss": loss, **metrics}
            if share is not None:
                means = {name: mean * share for name, mean in means.items()}
            sown = context.sown
            total = means["loss"] + sown.loss
            beat()
            self._engine.backward(total if self._scaler is None else self._scaler.scaled(total))
            results.append({**means, **sown.report})
            statistics.append(sown.statistics)
            if number == micro_batches:
                if self._scaler is not None:
                    is_finite = self._scaler.all_finite(self._engine.device)
                    is_made = is_finite and is_wanted and self._is_within(limit, results)
                norm = self._norm_of_whole_gradients()
            beat()
            with nullcontext() if is_made else self._optimizer.paused():
                self._engine.step()  # after the last one
        if not is_made:
            self._restore_residuals(residuals)
        if self._config.callbacks.watch.gradient_norm:
            norm = float(self._engine.get_global_grad_norm()) if norm is None else norm
            norm = norm if is_made else float("nan")
        return _Update(_means(results), _means(statistics), is_finite, is_made, norm)

    def _is_within(
        self, limit: np.float32 | None, results: Sequence[Mapping[str, torch.Tensor]]
    ) -> bool:
        """Whether the mean loss of all ranks is no more than a limit, and a number; collective."""
        if limit is None:
            return True
        loss = torch.stack([result["loss"].detach() for result in results]).mean()
        distributed.all_reduce(loss)
        loss /= distributed.get_world_size()
        return bool(loss.isfinite() & (loss <= float(limit)))

    def _norm_of_whole_gradients(self) -> float | None:
        """Returns the norm of gradients that no rank has a part of alone, before they are clipped.

        None: it is not asked for, or ZeRO computes it when it steps.
        """
        if not self._config.callbacks.watch.gradient_norm or self._config.zero.stage > 0:
            return None
        params = self._engine.module.parameters()
        return float(nn.utils.get_total_norm([p.grad for p in params if p.grad is not None]))

    def _copy_residuals(self) -> dict[str, Feedback] | None:
        """Returns what compression carries over, if a step may be skipped that would change it."""
        if self._scaler is None or self._compression is None:
            return None
        return deepcopy(self._compression.residuals.feedbacks)

    def _restore_residuals(self, feedbacks: dict[str, Feedback] | None) -> None:
        if self._compression is not None and feedbacks is not None:
            residuals = self._compression.residuals
            residuals.replace(feedbacks, residuals.loss_scale)

    def _set_statistics(self, statistics: Mapping[str, torch.Tensor]) -> None:
        """Gives weights that do not train the mean of what every rank's batch says; collective."""
        world_size = distributed.get_world_size()
        for name, new in statistics.items():
            if world_size > 1:
                distributed.all_reduce(new)
                new /= world_size
            self._statistics[name].copy_(new)

    def _estimate_curvature(
        self, scalars: StepScalars, num_targets: float, shares: _Shares, *batch: torch.Tensor
    ) -> bool:
        """Has the optimizer estimate the Hessian's diagonal, of targets the model would give.

        Args:
            scalars: Of the step.
            num_targets: How many are drawn, on all ranks.
            shares: As of `_update`.
            *batch: Likewise, with noise at the end.

        Returns:
            Whether the gradients were finite; otherwise there is no estimate.
        """

        def sampled_loss(*args: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return self._objective.sampled_loss(*args), {}

        estimate = gauss_newton_bartlett(num_targets)
        with self._optimizer.estimating_curvature(estimate), without_clipping(self._engine):
            return self._update(sampled_loss, scalars, shares, *batch).is_finite


def _be_deterministic(wanted: bool) -> None:
    """Has torch take algorithms that give the same bits again, and refuse operations of none."""
    torch.use_deterministic_algorithms(wanted)
    # Which would take time, and serve programs that read what they never wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    if wanted:  # heeded when CUDA's first product of matrices is due
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _means(results: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Returns the mean of each entry over several mappings with the same keys."""
    if len(results) == 1:
        return {name: value.detach() for name, value in results[0].items()}
    return {
        name: torch.stack([result[name].detach() for result in results]).mean(dim=0)
        for name in results[0]
    }


def _compress_gradients(
    engine: deepspeed.DeepSpeedEngine, config: TrainConfig
) -> zero.ZeroCompression | None:
    """Has the engine exchange gradients as `config.gradient_compression` says; collective.

    Returns:
        What counts the bytes and carries the residuals; None if gradients are not compressed.
    """
    compression = compression_of(config)
    return None if compression is None else zero.compress_gradients(engine, compression)
