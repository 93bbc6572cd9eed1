"""What a configuration means, computed once in numpy so that both frameworks get equal numbers."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from base.seeds import stream
from data.augment.chain import draw
from data.dataset import Split
from data.loader import WHOLE, Loader
from optim.schedule import warmup_cosine, warmup_polynomial, warmup_stable_decay
from train.config.schema import TrainConfig
from train.tasks.table import TASKS


class Batch(NamedTuple):
    """A rank's share of what a step learns from, the examples in front.

    Attributes:
        inputs: What the model is given.
        targets: What it is to answer.
        noise: What targets are sampled with, in steps whose optimizer wants curvature.
        seeds: `[batch]` int32, of what networks draw at random for each example.
    """

    inputs: np.ndarray
    targets: np.ndarray
    noise: np.ndarray | None
    seeds: np.ndarray


def training_batches(config: TrainConfig, split: Split) -> Loader:
    """Returns the run's batches over `split`."""
    augment = config.data.augment
    return Loader(
        split,
        batch_size=config.data.global_batch_size,
        seed=config.run.seed,
        augment=None if augment is None else partial(draw, augment),
        pad_to_multiple_of=config.data.pad_to_multiple_of,
        group_by_length=config.data.group_by_length,
    )


def batch_of(config: TrainConfig, loader: Loader, step: int, share: slice = WHOLE) -> Batch:
    """Returns a share of the batch of a step, counted from 0, with all that the step needs."""
    inputs, targets = loader.batch(step, share)
    noise = None
    if config.optimizer.algorithm.wants_curvature(step):
        # Drawn for the whole batch, so that a share's does not depend on the number of ranks.
        rng = stream(config.run.seed, "label noise", step)
        signature, size = config.model.signature, config.data.global_batch_size
        noise = TASKS[config.task].noise(signature, size, rng)[share]
        if targets.ndim > 1:  # of so many positions as the batch was cut to
            noise = noise[:, : targets.shape[1]]
    return Batch(inputs, targets, noise, _seeds(config, step)[share])


def _seeds(config: TrainConfig, step: int) -> np.ndarray:
    bits = stream(config.run.seed, "dropout", step)
    return bits.integers(0, 2**32, config.data.global_batch_size, np.uint32).view(np.int32)


def learning_rate(config: TrainConfig) -> Callable[[int], np.float32]:
    """Returns what gives the learning rate of a step, counted from 0."""
    rate = _schedule(config)
    return lambda step: np.float32(rate(step))


def _schedule(config: TrainConfig) -> Callable[[int], float]:
    schedule, num_steps = config.schedule, config.run.num_steps
    settings: dict[str, Any] = {
        "peak": config.optimizer.algorithm.learning_rate,
        "num_steps": num_steps,
        "warmup_steps": schedule.warmup_steps,
        "final_fraction": schedule.final_fraction,
    }
    match schedule.kind:
        case "warmup_cosine":
            return partial(warmup_cosine, **settings)
        case "warmup_linear":
            return partial(warmup_polynomial, **settings)
        case "warmup_polynomial":
            return partial(warmup_polynomial, **settings, power=schedule.power)
        case "warmup_stable_decay":
            falling = schedule.decay_fraction * (num_steps - schedule.warmup_steps)
            return partial(warmup_stable_decay, **settings, decay_steps=max(1, round(falling)))
