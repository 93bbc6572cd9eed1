"""Shuffled training batches, each a pure function of (seed, step).

The shuffled epochs are laid end to end and cut into batches of one size; a batch may therefore
straddle two epochs, and every example still comes exactly once an epoch. Nothing is carried from
batch to batch, so a run resumed at step n sees what it would have seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np

from base.seeds import stream
from data.dataset import PADDING, Split
from data.mixup import Mixup, mixed, partners


class Augmentation(Protocol):
    """What was drawn for a batch: `drawn[part](inputs_of_that_part)` gives the new inputs."""

    def __getitem__(self, part: slice, /) -> Callable[[np.ndarray], np.ndarray]: ...


# Draws for so many examples, from generators that it asks for by the names of streams.
Augment = Callable[[int, Callable[[str], np.random.Generator]], Augmentation]

WHOLE = slice(None)

# Batches that are drawn together and then sorted by length. More of them are more alike in length,
# fewer are more by chance.
_POOL_BATCHES = 32


@dataclass(frozen=True)
class Loader:
    """Batches of `(inputs, targets)`.

    Attributes:
        split: The examples.
        batch_size: Examples in every batch, >= 1.
        seed: Seed of both the order and the augmentation, >= 0.
        rows: Which of the examples there are, `[num_examples]`; None: all of them.
        augment: Called with the size of the batch and what gives the generators of that step.
        mixup: How examples are mixed in pairs, once augmented. None: they are not.
        pad_to_multiple_of: Sequences are cut to the longest of their whole batch, rounded up to it,
            where all they lose is padding. None: they are not cut.
        group_by_length: Whether sequences of about one length come in one batch.
    """

    split: Split
    batch_size: int
    seed: int
    rows: np.ndarray | None = None
    augment: Augment | None = None
    mixup: Mixup | None = None
    pad_to_multiple_of: int | None = None
    group_by_length: bool = False

    def batch(self, step: int, share: slice = WHOLE) -> tuple[np.ndarray, np.ndarray]:
        """Returns the inputs and targets of training step `step`, counted from 0.

        Args:
            step: Which.
            share: The part of the batch that is wanted. Its examples are those of the whole batch,
                to the bit, and no others are augmented but those that they are mixed with.
        """
        whole = self.indices(step)
        inputs, targets = self._examples(whole, step, share)
        if self.mixup is not None:
            others = self._examples(whole, step, partners(share, self.batch_size))
            drawn = self.mixup.draw(self.batch_size, stream(self.seed, "mixtures", step))[share]
            own, other = (self.mixup.targets(classes) for classes in (targets, others[1][::-1]))
            inputs, targets = mixed(drawn, inputs, others[0][::-1]), mixed(drawn, own, other)
        if self.pad_to_multiple_of is not None:
            # Of the whole batch, so that those who share it have arrays of one shape.
            length = self._padded_length(whole, self.pad_to_multiple_of)
            if targets.shape == inputs.shape:
                targets = targets[:, :length]
            inputs = inputs[:, :length]
        return inputs, targets

    def _examples(
        self, whole: np.ndarray, step: int, share: slice
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the inputs, augmented, and the targets of a part of a batch."""
        indices = whole[share]
        inputs, targets = self.split.inputs[indices], self.split.targets[indices]
        if self.augment is not None:
            drawn = self.augment(self.batch_size, lambda name: stream(self.seed, name, step))
            inputs = drawn[share](inputs)
        return inputs, targets

    def indices(self, step: int) -> np.ndarray:
        """Returns `[batch_size]`, which examples make up the batch of training step `step`."""
        size = self._size
        start = step * self.batch_size
        positions = np.arange(start, start + self.batch_size)
        first, last = positions[0] // size, positions[-1] // size
        orders = np.concatenate([self._order_of(epoch) for epoch in range(first, last + 1)])
        return orders[positions - first * size]

    @property
    def _size(self) -> int:
        return len(self.split) if self.rows is None else len(self.rows)

    @cached_property
    def _order_of(self) -> Callable[[int], np.ndarray]:
        # Two epochs that a batch straddles are needed again for the next batches.
        return lru_cache(maxsize=2)(self._order)

    def _order(self, epoch: int) -> np.ndarray:
        rng = stream(self.seed, "batch order", epoch)
        order = rng.permutation(self._size)
        if self.rows is not None:
            order = self.rows[order]
        if self.group_by_length:
            self._group(order[self._straddling(epoch) :], rng)
        return order

    def _straddling(self, epoch: int) -> int:
        """Returns how many examples of an epoch complete a batch that the one before began."""
        return -epoch * self._size % self.batch_size

    def _group(self, order: np.ndarray, rng: np.random.Generator) -> None:
        """Sorts examples into batches of similar lengths, in place, a pool of them at a time."""
        size = self.batch_size
        whole = len(order) // size * size
        for start in range(0, whole, _POOL_BATCHES * size):
            pool = order[start : min(start + _POOL_BATCHES * size, whole)]
            by_length = pool[np.argsort(self._lengths[pool], kind="stable")]
            pool[:] = rng.permutation(by_length.reshape(-1, size)).ravel()

    @cached_property
    def _lengths(self) -> np.ndarray:
        """Number of tokens of each sequence, which end in padding."""
        lengths: np.ndarray = (self.split.inputs != PADDING).sum(axis=1)
        return lengths

    def _padded_length(self, indices: np.ndarray, multiple: int) -> int:
        longest = int(self._lengths[indices].max())
        return min(-(-longest // multiple) * multiple, self.split.inputs.shape[1])
