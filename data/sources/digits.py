"""Handwritten digits: 1,797 real 8x8 grey images that ship inside scikit-learn's wheel.

Reference: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, 1998, https://doi.org/10.24432/C50P49 (the test part, as in scikit-learn).
"""

import numpy as np

from base.config import Section
from data.dataset import Dataset, ExampleSpec, ImagePreprocessing, Source
from data.stratified import stratified_split

IMAGE_SHAPE = (8, 8, 1)
NUM_CLASSES = 10
_NUM_TEST = 360  # a fifth of the images
_SPLIT_SEED = 20240229  # one split for every run: accuracies stay comparable across seeds
_MAX_GREY = 16.0  # the source counts the set pixels of 4x4 blocks
# Those counts are the means of a box of pixels. The strokes are the set pixels.
_PREPROCESSING = ImagePreprocessing("grey", "box", "pad", scale=1 / 255, light_on_dark=True)


class DigitsOptions(Section):
    """The digits as they are: there is nothing to choose."""


def load() -> Dataset:
    """Loads the data set in its fixed stratified split: 1,437 images to train on, 360 held out.

    Inputs are `[num_images, 8, 8, 1]` float32 in [0, 1], targets `[num_images]` int32 in [0, 10).
    """
    # Takes seconds to import, which who only asks for the shapes need not wait for.
    from sklearn.datasets import load_digits

    source = load_digits()
    images = (source.images / _MAX_GREY).astype(np.float32)[..., np.newaxis]
    labels = source.target.astype(np.int32)
    return stratified_split(images, labels, num_test=_NUM_TEST, seed=_SPLIT_SEED)


def _load(options: DigitsOptions) -> Dataset:
    return load()


def _describe(options: DigitsOptions) -> ExampleSpec:
    return ExampleSpec(
        "images",
        IMAGE_SHAPE,
        "float32",
        NUM_CLASSES,
        class_names=tuple("0123456789"),
        image_preprocessing=_PREPROCESSING,
    )


DIGITS = Source("digits", DigitsOptions, _describe, _load, libraries=("scikit-learn",))
