"""Mirrors images, left for right."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Flip:
    """Which images of a batch are mirrored.

    Attributes:
        flipped: `[batch]` booleans.
    """

    flipped: np.ndarray

    def __getitem__(self, part: slice) -> "Flip":
        """Returns those of a part of the batch."""
        return Flip(self.flipped[part])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Mirrors images `[batch, height, width, channels]`."""
        return np.where(self.flipped[:, None, None, None], images[:, :, ::-1], images)


def random_flip(batch_size: int, rng: np.random.Generator, *, rate: float) -> Flip:
    """Draws for each image of a batch whether it is mirrored, with a probability of `rate`."""
    return Flip(rng.random(batch_size) < rate)
