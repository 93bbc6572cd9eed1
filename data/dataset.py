"""What a data source is to those who train on it: one record, the same for every source."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np

from base.config import Section

Options = TypeVar("Options", bound=Section)

# Fills up sequences of tokens; as a target, it is not to be learnt.
PADDING = -1

_DIGEST_ROWS = 1024


class ImagePreprocessing(NamedTuple):
    """How an image as people have it becomes an input as the source has it.

    Whoever serves a model that was trained on the source does this; the source itself does not.
    ImagePreprocessing of proto/hpc/artifact/v1/artifact.proto states each step.

    Attributes:
        color_mode: "grey" for one channel, "rgb" for three.
        resampling: How the image is brought to the size of the inputs, in Pillow's words.
        fit: What becomes of an image whose sides are in another proportion.
        scale: A channel's value v from 0 to 255 becomes (v * scale - mean) / std.
        mean: One number a channel; empty: 0.
        std: One number a channel; empty: 1.
        light_on_dark: The inputs are light on dark: an image that is dark on light is inverted.
    """

    color_mode: Literal["grey", "rgb"]
    resampling: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]
    fit: Literal["stretch", "pad", "crop"]
    scale: float
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    light_on_dark: bool = False


class ExampleSpec(NamedTuple):
    """What the examples of a source are, known before any is loaded.

    Attributes:
        unit: What one is called, in the plural, such as "images".
        input_shape: Of the input of one example, such as `(height, width, channels)`.
        input_dtype: NumPy's name of the type of its values.
        num_classes: Targets are whole numbers in [0, num_classes); None: they are something else.
        target_shape: Of the target of one example: `()` for one class, `(seq_len,)` for one at each
            position, of which negative ones are not to be learnt, such as those of padding.
        target_dtype: NumPy's name of the type of its values.
        is_padded: Inputs are sequences of tokens, `(seq_len,)`, of which some are shorter and
            end in `PADDING`.
        num_neighbours: How many of those that follow a training example have something of it, such
            as the next ones of the same text; 0: they are independent of each other.
        class_names: What each class is called; None: by its number.
        bytes_per_token: Of the text that tokens stand for, on average; None: they stand for none.
        image_preprocessing: How any image becomes such an input; None: inputs are no images.
    """

    unit: str
    input_shape: tuple[int, ...]
    input_dtype: str
    num_classes: int | None
    target_shape: tuple[int, ...] = ()
    target_dtype: str = "int32"
    is_padded: bool = False
    num_neighbours: int = 0
    class_names: tuple[str, ...] | None = None
    bytes_per_token: float | None = None
    image_preprocessing: ImagePreprocessing | None = None


@dataclass(frozen=True)
class Split:
    """Examples with their answers.

    Attributes:
        inputs: `[num_examples, ...]`, read-only.
        targets: `[num_examples, ...]`, read-only.
    """

    inputs: np.ndarray
    targets: np.ndarray

    def __post_init__(self) -> None:
        for array in (self.inputs, self.targets):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Dataset:
    """A data set: `train` to learn from, `test` held out until training has ended."""

    train: Split
    test: Split

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of every byte of both splits in order: it names exactly this data."""
        sha256 = hashlib.sha256()
        for split in (self.train, self.test):
            for array in (split.inputs, split.targets):
                # In parts: of windows that overlap, the whole is many times what memory holds.
                for start in range(0, len(array), _DIGEST_ROWS):
                    part = array[start : start + _DIGEST_ROWS]
                    sha256.update(part.astype(part.dtype.newbyteorder("<"), copy=False).tobytes())
        return sha256.hexdigest()


@dataclass(frozen=True)
class Source(Generic[Options]):
    """Where examples come from.

    Attributes:
        name: In configurations, `data.source`.
        options: The section `data.options` of a configuration.
        describe: Says what the examples are, at once.
        load: Reads them, which may take seconds; equal options give equal examples.
        libraries: Distributions whose versions decide what is read.
    """

    name: str
    options: type[Options]
    describe: Callable[[Options], ExampleSpec]
    load: Callable[[Options], Dataset]
    libraries: tuple[str, ...] = ()
