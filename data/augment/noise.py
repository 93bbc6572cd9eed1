"""Adds noise to each value of an image."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Noise:
    """Noise of the images of a batch, of which only what is asked for is drawn.

    Attributes:
        seeds: `[batch]` integers, of which each image's noise is drawn.
        stddev: Its deviation.
    """

    seeds: np.ndarray
    stddev: float

    def __getitem__(self, part: slice) -> "Noise":
        """Returns that of a part of the batch."""
        return Noise(self.seeds[part], self.stddev)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Adds to images `[batch, ...]`."""
        drawn = [
            np.random.default_rng(seed).standard_normal(images.shape[1:], np.float32)
            for seed in self.seeds
        ]
        noisy: np.ndarray = images + images.dtype.type(self.stddev) * np.stack(drawn)
        return noisy


def random_noise(batch_size: int, rng: np.random.Generator, *, stddev: float) -> Noise:
    """Draws a seed for each image of a batch."""
    return Noise(rng.integers(0, 2**63, batch_size), stddev)
