"""Shuffled training batches, each a pure function of (seed, step).

The shuffled epochs are laid end to end and cut into batches of one size; a batch may therefore
straddle two epochs, and every example still comes exactly once an epoch. Nothing is carried from
batch to batch, so a run resumed at step n sees what it would have seen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from base.seeds import stream

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Loader:
    """Batches of `(images, labels)`.

    Attributes:
        images: `[num_images, ...]`.
        labels: `[num_images]`.
        batch_size: Examples in every batch, >= 1.
        seed: Seed of both the order and the augmentation, >= 0.
        augment: Called with a batch of images and a generator of that step; gives the new images.
    """

    images: np.ndarray
    labels: np.ndarray
    batch_size: int
    seed: int
    augment: Augment | None = None

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the images and labels of training step `step`, counted from 0."""
        indices = self.indices(step)
        images, labels = self.images[indices], self.labels[indices]
        if self.augment is not None:
            rng = stream(self.seed, "augmentation", step)
            images = self.augment(images, rng)
        return images, labels

    def indices(self, step: int) -> np.ndarray:
        """Returns `[batch_size]`, which examples make up the batch of training step `step`."""
        size = len(self.labels)
        start = step * self.batch_size
        positions = np.arange(start, start + self.batch_size)
        first, last = positions[0] // size, positions[-1] // size
        orders = np.concatenate([self._order(epoch) for epoch in range(first, last + 1)])
        return orders[positions - first * size]

    def _order(self, epoch: int) -> np.ndarray:
        return stream(self.seed, "batch order", epoch).permutation(len(self.labels))
