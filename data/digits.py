"""Handwritten digits: 1,797 real 8x8 grey images that ship inside scikit-learn's wheel.

Reference: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, 1998, https://doi.org/10.24432/C50P49 (the test part, as in scikit-learn).
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

IMAGE_SHAPE = (8, 8, 1)
NUM_CLASSES = 10
_NUM_TEST = 360  # a fifth of the images
_SPLIT_SEED = 20240229  # one split for every run: accuracies stay comparable across seeds
_MAX_GREY = 16.0  # the source counts the set pixels of 4x4 blocks


@dataclass(frozen=True)
class Split:
    """Labelled images.

    Attributes:
        images: `[num_images, 8, 8, 1]` float32 in [0, 1], read-only.
        labels: `[num_images]` int32 in [0, 10), read-only.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Digits:
    """The data set: `train` to learn from, `test` held out until training has ended."""

    train: Split
    test: Split

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of every byte of both splits in order: it names exactly this data."""
        sha256 = hashlib.sha256()
        for split in (self.train, self.test):
            sha256.update(split.images.astype("<f4").tobytes())
            sha256.update(split.labels.astype("<i4").tobytes())
        return sha256.hexdigest()


def load() -> Digits:
    """Loads the data set in its fixed stratified split: 1,437 images to train on, 360 held out."""
    # Takes seconds to import, which who only asks for the shapes need not wait for.
    from sklearn.datasets import load_digits

    source = load_digits()
    images = (source.images / _MAX_GREY).astype(np.float32)[..., np.newaxis]
    labels = source.target.astype(np.int32)
    is_test = _stratified_mask(labels, _NUM_TEST, np.random.default_rng(_SPLIT_SEED))
    return Digits(train=_split(images, labels, ~is_test), test=_split(images, labels, is_test))


def _stratified_mask(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Marks `count` examples so that each class has its share, to within one example."""
    order = rng.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]  # classes in turn, shuffled inside
    mask = np.zeros(len(labels), dtype=bool)
    # Evenly spaced positions of a list sorted by class take from every class in proportion.
    mask[by_class[np.arange(count) * len(labels) // count]] = True
    return mask


def _split(images: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Split:
    split = Split(images=images[mask], labels=labels[mask])
    split.images.setflags(write=False)
    split.labels.setflags(write=False)
    return split
