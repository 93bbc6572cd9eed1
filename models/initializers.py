"""How weights start: functions of a shape, in PyTorch's layout, and a generator, to float64."""

import math
from collections.abc import Callable

import numpy as np

Shape = tuple[int, ...]

Initializer = Callable[[Shape, np.random.Generator], np.ndarray]


def zeros(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Returns zeros."""
    return np.zeros(shape)


def ones(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Returns ones."""
    return np.ones(shape)


def constant(value: float) -> Initializer:
    """Returns what fills a tensor with one value."""
    return lambda shape, rng: np.full(shape, value)


def exactly(values: np.ndarray) -> Initializer:
    """Returns what gives these values, of the tensor's shape."""
    return lambda shape, rng: values.reshape(shape).copy()


def normal(stddev: float) -> Initializer:
    """Returns what draws from a normal distribution around zero."""
    return lambda shape, rng: rng.normal(0.0, stddev, shape)


def uniform(limit: float) -> Initializer:
    """Returns what draws from a uniform distribution around zero, up to a limit to either side."""
    return lambda shape, rng: rng.uniform(-limit, limit, shape)


def glorot_uniform(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Draws a linear layer `[..., out, in]`, or several, as for saturating units.

    Reference: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.
    """
    limit = math.sqrt(6.0 / (shape[-1] + shape[-2]))
    return rng.uniform(-limit, limit, shape)


def he_normal(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Draws a linear layer `[out, in]` or a convolution `[out, in, ...]` as for rectified units.

    Reference: He et al., "Delving Deep into Rectifiers", https://arxiv.org/abs/1502.01852.
    """
    return rng.normal(0.0, math.sqrt(2.0 / math.prod(shape[1:])), shape)
