"""Holds out examples so that every class has its share of them."""

import numpy as np

from data.dataset import Dataset, Split


def stratified_split(
    inputs: np.ndarray, labels: np.ndarray, *, num_test: int, seed: int
) -> Dataset:
    """Splits examples at random, the same way whenever the seed is the same.

    Args:
        inputs: `[num_examples, ...]`.
        labels: `[num_examples]` integers, the classes.
        num_test: How many to hold out: of each class its share, to within one example.
        seed: Which of the possible splits.
    """
    is_test = stratified_mask(labels, num_test, np.random.default_rng(seed))
    return Dataset(
        train=Split(inputs[~is_test], labels[~is_test]),
        test=Split(inputs[is_test], labels[is_test]),
    )


def stratified_mask(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Marks `count` examples so that each class has its share, to within one example."""
    order = rng.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]  # classes in turn, shuffled inside
    mask = np.zeros(len(labels), dtype=bool)
    # Evenly spaced positions of a list sorted by class take from every class in proportion.
    mask[by_class[np.arange(count) * len(labels) // count]] = True
    return mask
