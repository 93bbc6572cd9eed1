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
    num_targets: int = Field(
        default=1, ge=1, le=4096, description="functions of a point, each with waves of its own"
    )
    layout: Literal["point", "pixel"] = Field(
        default="point",
        description="shape of an input: [num_dimensions], or that of an image of one pixel, "
        "[1, 1, num_dimensions]",
    )

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        self.check_size(self.num_waves * self.num_targets, "num_waves or num_targets")
        return self


def _load(options: WavesOptions) -> Dataset:
    rng = options.task_rng
    size = (options.num_targets, options.num_waves, options.num_dimensions)
    periods = rng.uniform(0.5, 1.0, size) * options.max_frequency * rng.choice([-1.0, 1.0], size)
    phases = rng.uniform(0.0, 2 * np.pi, size[:2])

    def draw(count: int, noise: float, rng: np.random.Generator) -> Split:
        points = rng.uniform(-1.0, 1.0, (count, options.num_dimensions)).astype(np.float32)
        waves = np.sin(np.pi * np.einsum("nd,twd->ntw", points, periods) + phases)
        # Of variance 1, however many there are: that of a sine is a half.
        heights = waves.sum(axis=2) * np.sqrt(2.0 / options.num_waves)
        heights = heights + rng.normal(0.0, noise, heights.shape)
        inputs = points.reshape(count, *_input_shape(options))
        return Split(inputs, heights.astype(np.float32))

    return Dataset(
        train=draw(options.num_train, options.noise, options.train_rng),
        test=draw(options.num_test, 0.0, options.test_rng),
    )


def _input_shape(options: WavesOptions) -> tuple[int, ...]:
    lead = (1, 1) if options.layout == "pixel" else ()
    return (*lead, options.num_dimensions)


def _describe(options: WavesOptions) -> ExampleSpec:
    return ExampleSpec(
        "points",
        _input_shape(options),
        "float32",
        None,
        target_shape=(options.num_targets,),
        target_dtype="float32",
    )


WAVES = Source("waves", WavesOptions, _describe, _load)
