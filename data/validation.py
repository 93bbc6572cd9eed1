"""Holds out a part of the training examples, to choose by while the test examples wait."""

from typing import NamedTuple

import numpy as np

from base.seeds import stream
from data.dataset import ExampleSpec, Split
from data.stratified import stratified_mask

# One choice for every run: metrics stay comparable across seeds.
_SEED = 20240229


class Rows(NamedTuple):
    """Which of the training examples are learnt from and which are measured, int64, in order."""

    learnt: np.ndarray
    validation: np.ndarray


def hold_out(split: Split, examples: ExampleSpec, fraction: float) -> Rows:
    """Chooses examples to hold out, always the same ones; nothing is copied.

    They are drawn at random, of each class its share, to within one example. Where examples have
    something of their neighbours, such as windows of one text, they are the last ones, and those
    that share something with them belong to neither part.

    Args:
        split: The training examples.
        examples: What these are.
        fraction: Share to hold out, in (0, 1); rounded to whole examples, of which there is one at
            least.

    Raises:
        ValueError: Nothing would be left to learn from.
    """
    size = len(split)
    count = max(1, round(fraction * size))
    num_learnt = size - count - examples.num_neighbours
    if num_learnt < 1:
        raise ValueError(
            f"a share of {fraction} leaves nothing to learn from of {size:,} {examples.unit}"
        )
    if examples.num_neighbours:
        return Rows(np.arange(num_learnt), np.arange(size - count, size))
    rng = stream(_SEED, "validation")
    classes = split.targets
    if examples.num_classes is None or classes.ndim > 1:
        classes = np.zeros(size, np.int64)
    is_held_out = stratified_mask(classes, count, rng)
    return Rows(np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out))
