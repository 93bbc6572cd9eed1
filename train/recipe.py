"""What a configuration means, computed once in numpy so that both frameworks get equal numbers."""

from functools import partial

import numpy as np

from data.augment import random_affine
from data.digits import Split
from data.loader import Loader
from optim.schedule import warmup_cosine
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


def learning_rates(config: TrainConfig) -> np.ndarray:
    """Returns `[num_steps]` float32, the learning rate of each step."""
    rates = [
        warmup_cosine(
            step,
            peak=config.schedule.peak_learning_rate,
            num_steps=config.run.num_steps,
            warmup_steps=config.schedule.warmup_steps,
            final_fraction=config.schedule.final_fraction,
        )
        for step in range(config.run.num_steps)
    ]
    return np.array(rates, dtype=np.float32)
