"""A sum of fast waves over a line or a plane, to be told from coordinates.

A multi-layer perceptron learns low frequencies first and such ones not at all in any time that one
would wait; of Fourier features of the coordinates it learns them at once.

Reference: M. Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions in Low
Dimensional Domains", https://arxiv.org/abs/2006.10739.
"""

from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from data.dataset import Dataset, ExampleSpec, Source, Split
from data.sources.drawn import DrawnOptions


class WavesOptions(DrawnOptions):
    """What is added up."""

    num_dimensions: int = Field(default=2, ge=1, le=8, description="coordinates of a point")
    num_waves: int = Field(default=8, ge=1, le=4096, description="that are added up")
    max_frequency: float = Field(
        default=6.0,
        gt=0,
        le=1e4,
        description="periods from -1 to 1 along a coordinate, at most; at least half as many",
    )
    noise: float = Field(
        default=0.0, ge=0, le=100, description="deviation of what is added to targets to train on"
    )
    layout: Literal["point", "pixel"] = Field(
        default="point",
        description="shape of an input: [num_dimensions], or that of an image of one pixel, "
        "[1, 1, num_dimensions]",
    )

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        self.check_size(self.num_waves, "num_waves")
        return self


def _load(options: WavesOptions) -> Dataset:
    rng = options.task_rng
    size = (options.num_waves, options.num_dimensions)
    periods = rng.uniform(0.5, 1.0, size) * options.max_frequency * rng.choice([-1.0, 1.0], size)
    phases = rng.uniform(0.0, 2 * np.pi, options.num_waves)

    def draw(count: int, noise: float, rng: np.random.Generator) -> Split:
        points = rng.uniform(-1.0, 1.0, (count, options.num_dimensions)).astype(np.float32)
        waves = np.sin(np.pi * points @ periods.T + phases)
        # Of variance 1, however many there are: that of a sine is a half.
        height = waves.sum(axis=1) * np.sqrt(2.0 / options.num_waves)
        height = height + rng.normal(0.0, noise, count)
        inputs = points.reshape(count, *_input_shape(options))
        return Split(inputs, height.astype(np.float32)[:, np.newaxis])

    return Dataset(
        train=draw(options.num_train, options.noise, options.train_rng),
        test=draw(options.num_test, 0.0, options.test_rng),
    )


def _input_shape(options: WavesOptions) -> tuple[int, ...]:
    lead = (1, 1) if options.layout == "pixel" else ()
    return (*lead, options.num_dimensions)


def _describe(options: WavesOptions) -> ExampleSpec:
    shape = _input_shape(options)
    return ExampleSpec("points", shape, "float32", None, target_shape=(1,), target_dtype="float32")


WAVES = Source("waves", WavesOptions, _describe, _load)
