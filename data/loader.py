"""Shuffled training batches, each a pure function of (seed, step).

The shuffled epochs are laid end to end and cut into batches of one size; a batch may therefore
straddle two epochs, and every example still comes exactly once an epoch. Nothing is carried from
batch to batch, so a run resumed at step n sees what it would have seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from base.seeds import stream
from data.dataset import Split


class Augmentation(Protocol):
    """What was drawn for a batch: `drawn[part](inputs_of_that_part)` gives the new inputs."""

    def __getitem__(self, part: slice, /) -> Callable[[np.ndarray], np.ndarray]: ...


# Draws, from a generator, for so many examples.
Augment = Callable[[int, np.random.Generator], Augmentation]

WHOLE = slice(None)


@dataclass(frozen=True)
class Loader:
    """Batches of `(inputs, targets)`.

    Attributes:
        split: The examples.
        batch_size: Examples in every batch, >= 1.
        seed: Seed of both the order and the augmentation, >= 0.
        augment: Called with the size of the batch and a generator of that step.
    """

    split: Split
    batch_size: int
    seed: int
    augment: Augment | None = None

    def batch(self, step: int, share: slice = WHOLE) -> tuple[np.ndarray, np.ndarray]:
        """Returns the inputs and targets of training step `step`, counted from 0.

        Args:
            step: Which.
            share: The part of the batch that is wanted. Its examples are those of the whole batch,
                to the bit, and no others are augmented.
        """
        indices = self.indices(step)[share]
        inputs, targets = self.split.inputs[indices], self.split.targets[indices]
        if self.augment is not None:
            drawn = self.augment(self.batch_size, stream(self.seed, "augmentation", step))
            inputs = drawn[share](inputs)
        return inputs, targets

    def indices(self, step: int) -> np.ndarray:
        """Returns `[batch_size]`, which examples make up the batch of training step `step`."""
        size = len(self.split)
        start = step * self.batch_size
        positions = np.arange(start, start + self.batch_size)
        first, last = positions[0] // size, positions[-1] // size
        orders = np.concatenate([self._order(epoch) for epoch in range(first, last + 1)])
        return orders[positions - first * size]

    def _order(self, epoch: int) -> np.ndarray:
        return stream(self.seed, "batch order", epoch).permutation(len(self.split))
