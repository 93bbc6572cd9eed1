"""Trains every variant of one task from one seed, on ranks that are processes joined by gloo."""

import hashlib
import time
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.convergence.cases import Cell
from benchmarks.convergence.results import Result
from benchmarks.convergence.sides import VARIANTS
from benchmarks.tasks.tasks import TASKS, Examples, Task
from comm.testing import ranks
from optim.adamw import AdamW
from optim.torch.optimizer import decay_groups

_TIMEOUT_S = 3600.0


class RanksDifferError(RuntimeError):
    """Ranks ended with different weights, so that no result is that of one model."""


def run_cell(cell: Cell, variants: Sequence[str]) -> list[Result]:
    """Trains each variant in turn, on `cell.world_size` new processes of one thread each.

    Raises:
      RanksError: a rank failed; the message has its traceback.
    """
    results = ranks.run(
        _train_variants,
        cell.world_size,
        cell,
        tuple(variants),
        timeout_s=_TIMEOUT_S,
        group_timeout_s=_TIMEOUT_S,
    )
    return list(results[0])


def _train_variants(
    rank: int, world_size: int, cell: Cell, variants: Sequence[str]
) -> list[Result]:
    task = TASKS[cell.task](cell.seed, cell.num_steps)
    return [_train(rank, world_size, task, variant) for variant in variants]


def _train(rank: int, world_size: int, task: Task, variant: str) -> Result:
    model = task.model()
    replica = DistributedDataParallel(model)
    wire = VARIANTS[variant](replica, len(task.learning_rates))
    optimizer = _adamw(task.adamw, model)
    losses = torch.zeros(len(task.learning_rates))
    start = time.monotonic()
    for step, rate in enumerate(task.learning_rates.tolist()):
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs, targets = _share(task.batch(step), rank, world_size)
        loss = F.cross_entropy(
            replica(inputs).flatten(0, -2), targets.flatten(), label_smoothing=task.label_smoothing
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[step] = loss.detach()
    duration_s = time.monotonic() - start
    distributed.all_reduce(losses)
    _check_one_model(model)
    held_out_loss, accuracy = _evaluate(model, _share(task.held_out, rank, world_size))
    return Result(
        variant=variant,
        train_losses=(losses / world_size).tolist(),
        held_out_loss=held_out_loss,
        accuracy=accuracy,
        bytes_ratio=None if wire is None else wire.ratio,
        duration_s=duration_s,
    )


def _adamw(config: AdamW, model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        decay_groups(model),
        weight_decay=config.weight_decay,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )


def _share(examples: Examples, rank: int, world_size: int) -> Examples:
    """A rank's examples; all ranks have as many of a training batch."""
    inputs, targets = examples
    return inputs[rank::world_size], targets[rank::world_size]


@torch.no_grad()
def _evaluate(model: nn.Module, examples: Examples) -> tuple[float, float]:
    """Returns the loss and the accuracy over the examples of all ranks."""
    inputs, targets = examples
    logits, targets = model(inputs).flatten(0, -2), targets.flatten()
    loss = F.cross_entropy(logits.double(), targets, reduction="sum")
    correct = (logits.argmax(dim=-1) == targets).sum()
    totals = torch.stack([loss, correct.double(), torch.tensor(float(len(targets))).double()])
    distributed.all_reduce(totals)
    loss_sum, num_correct, count = totals.tolist()
    return loss_sum / count, num_correct / count


def _check_one_model(model: nn.Module) -> None:
    weights = nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    digest = hashlib.sha256(weights.tobytes()).digest()
    own = torch.from_numpy(np.frombuffer(digest, np.uint8).copy())
    found = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(found, own)
    if any(not torch.equal(one, own) for one in found):
        raise RanksDifferError("the ranks' weights differ after training, bit by bit")
