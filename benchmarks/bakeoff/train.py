"""Trains one task with one optimizer, as the bake-off of optimizers needs it."""

import math
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from base.seeds import seed_of
from benchmarks.bakeoff.results import Result
from benchmarks.tasks.tasks import Examples, Task
from optim.algorithm import Algorithm
from optim.torch.curvature import gauss_newton_bartlett, sample_labels
from optim.torch.optimizer import Optimizer, decay_groups


def train(task: Task, algorithm: Algorithm, seed: int) -> Result:
    """Trains the task's model from its initial weights, on the threads that torch has.

    Args:
      task: Made for the seed.
      algorithm: Its learning rate is the schedule's peak.
      seed: Of the labels that Sophia samples.
    """
    model = task.model()
    optimizer = Optimizer(decay_groups(model), algorithm)
    labels = torch.Generator().manual_seed(seed_of(seed, "sampled labels"))
    shares = task.learning_rates / task.adamw.learning_rate
    losses: list[float] = []
    start = time.monotonic()
    for step, share in enumerate(shares.tolist()):
        for group in optimizer.param_groups:
            group["lr"] = algorithm.learning_rate * share
        inputs, targets = task.batch(step)
        if algorithm.wants_curvature(step):
            _estimate_curvature(model, optimizer, inputs, labels)
        loss = _loss(model(inputs), targets, label_smoothing=task.label_smoothing)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    duration_s = time.monotonic() - start
    inputs, targets = task.held_out
    tuning_loss, _ = _evaluate(model, (inputs[::2], targets[::2]))
    test_loss, accuracy = _evaluate(model, (inputs[1::2], targets[1::2]))
    return Result(
        train_losses=losses,
        tuning_loss=tuning_loss if math.isfinite(tuning_loss) else math.inf,
        test_loss=test_loss if math.isfinite(test_loss) else math.inf,
        test_accuracy=accuracy,
        state_bytes=_state_bytes(optimizer, algorithm),
        clipped_fraction=optimizer.fractions().get("clipped"),
        duration_s=duration_s,
    )


def _loss(logits: torch.Tensor, targets: torch.Tensor, **options: Any) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), **options)


def _estimate_curvature(
    model: nn.Module, optimizer: Optimizer, inputs: torch.Tensor, generator: torch.Generator
) -> None:
    logits = model(inputs)
    noise = -torch.empty(logits.shape).exponential_(generator=generator).log()
    sampled = sample_labels(logits, noise)
    optimizer.zero_grad()
    _loss(logits, sampled).backward()
    with optimizer.estimating_curvature(gauss_newton_bartlett(sampled.numel())):
        optimizer.step()


@torch.no_grad()
def _evaluate(model: nn.Module, examples: Examples) -> tuple[float, float]:
    """Returns the mean loss and the accuracy."""
    inputs, targets = examples
    logits = model(inputs)
    hits = logits.argmax(dim=-1) == targets
    return float(_loss(logits.double(), targets)), float(hits.double().mean())


def _state_bytes(optimizer: Optimizer, algorithm: Algorithm) -> float:
    params = [param for group in optimizer.param_groups for param in group["params"]]
    slots = [optimizer.state[param][slot] for param in params for slot in algorithm.slots]
    return sum(x.numel() * x.element_size() for x in slots) / sum(x.numel() for x in params)
