"""What a configuration means, computed once in numpy so that both frameworks get equal numbers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from base.seeds import stream
from data.augment import random_affine
from data.digits import Split
from data.loader import Loader
from optim.schedule import warmup_cosine, warmup_polynomial, warmup_stable_decay
from train.config import TrainConfig


def training_batches(config: TrainConfig, split: Split) -> Loader:
    """Returns the run's batches over `split`."""
    augment = config.data.augment
    return Loader(
        images=split.images,
        labels=split.labels,
        batch_size=config.data.global_batch_size,
        seed=config.run.seed,
        augment=None if augment is None else partial(random_affine, **augment.model_dump()),
    )


def learning_rate(config: TrainConfig) -> Callable[[int], np.float32]:
    """Returns what gives the learning rate of a step, counted from 0."""
    rate = _schedule(config)
    return lambda step: np.float32(rate(step))


def label_noise(config: TrainConfig, step: int) -> np.ndarray:
    """Returns `[global_batch_size, num_classes]` float32 of the standard Gumbel distribution.

    For labels sampled in a step, see `optim.torch.curvature.sample_labels`.
    """
    rng = stream(config.run.seed, "label noise", step)
    shape = (config.data.global_batch_size, config.model.config.num_classes)
    return rng.gumbel(size=shape).astype(np.float32)


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
