"""AdaBelief: steps as long as the gradient is believed."""

import math
from types import ModuleType
from typing import ClassVar

from pydantic import Field

from optim.algorithm import Algorithm, Array, Scalar, debias

# Rectified variances of fewer samples are intractable; torch's RAdam and the authors' code agree.
_MIN_SAMPLES = 5.0

_SERIES_BELOW = 0.3


class AdaBelief(Algorithm):
    """AdaBelief: Adam whose second moment is of the gradient's distance from its own average.

        m <- beta1 * m + (1 - beta1) * g
        s <- beta2 * s + (1 - beta2) * (g - m)**2 + epsilon
        u  = m / (1 - beta1**t) / (sqrt(s / (1 - beta2**t)) + epsilon)
        w <- w - lr * (u + weight_decay * w)

    With `rectify`, `u` is multiplied by RAdam's r_t, and is the unbiased momentum alone in the
    first steps, where r_t is not defined:

        n_inf = 2 / (1 - beta2) - 1;  n_t = n_inf - 2 * t * beta2**t / (1 - beta2**t)
        r_t = sqrt((n_t - 4) * (n_t - 2) * n_inf / ((n_inf - 4) * (n_inf - 2) * n_t))  if n_t > 5

    epsilon is added to a square, so that 1e-16 is here what 1e-8 is to Adam. Clip gradients by
    their norm only: clipped one by one they repeat, `g - m` vanishes and steps explode.

    Reference: Zhuang et al., "AdaBelief Optimizer", Algorithm 2, https://arxiv.org/abs/2010.07468;
    Liu et al., "On the Variance of the Adaptive Learning Rate", Algorithm 2,
    https://arxiv.org/abs/1908.03265. Defaults are those of the authors' code, but for `rectify`,
    which is on there and is not in the paper's algorithm.
    """

    name: ClassVar[str] = "adabelief"
    slots: ClassVar[tuple[str, ...]] = ("momentum", "deviation")
    squares: ClassVar[frozenset[str]] = frozenset({"deviation"})

    learning_rate: float = Field(default=1e-3, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of the mean of gradients")
    beta2: float = Field(
        default=0.999, ge=0, lt=1, description="decay of the mean of squared distances from it"
    )
    epsilon: float = Field(
        default=1e-16, gt=0, description="added to that mean at each update, and to its root"
    )
    rectify: bool = Field(
        default=False, description="whether steps are shorter while that mean is of few gradients"
    )

    def scalars(self, xp: ModuleType, step: Scalar) -> dict[str, Scalar]:
        adaptive, plain = (0.0, 1.0) if self.rectify else (1.0, 0.0)
        most = 2 / (1 - self.beta2) - 1
        if self.rectify and most > _MIN_SAMPLES:
            samples = _samples(xp, self.beta2, step)
            known = samples > _MIN_SAMPLES
            samples = xp.where(known, samples, most)
            ratio = (samples - 4) * (samples - 2) * most / ((most - 4) * (most - 2) * samples)
            adaptive = xp.where(known, xp.sqrt(ratio), 0.0)
            plain = xp.where(known, 0.0, 1.0)
        return {
            "momentum": debias(xp, self.beta1, step),
            "deviation": debias(xp, self.beta2, step),
            "adaptive": adaptive,
            "plain": plain,
        }

    def direction(
        self, xp: ModuleType, scalars: dict[str, Scalar], grad: Array, *slots: Array
    ) -> tuple[Array, ...]:
        m, s = slots
        m = self.beta1 * m + (1 - self.beta1) * grad
        surprise = grad - m
        s = self.beta2 * s + (1 - self.beta2) * (surprise * surprise) + self.epsilon
        scale = 1.0 / (xp.sqrt(s * scalars["deviation"]) + self.epsilon) * scalars["adaptive"]
        return m * scalars["momentum"] * (scale + scalars["plain"]), m, s


def _samples(xp: ModuleType, beta: float, step: Scalar) -> Scalar:
    """Returns n_t; see `AdaBelief`.

    The difference of its two terms would lose four digits in float32. With L(z) = coth(z) - 1 / z
    and y = -log(beta), they are L(y / 2) + t * (1 - L(t * y / 2)), a sum of positive ones.
    """
    half = -math.log(beta) / 2
    z = step * half
    small = xp.where(z < _SERIES_BELOW, z, _SERIES_BELOW)
    large = xp.where(z < _SERIES_BELOW, _SERIES_BELOW, z)
    rest = xp.where(
        z < _SERIES_BELOW, 1.0 - _langevin(small), 1.0 / large - 2.0 / xp.expm1(2.0 * large)
    )
    own = _langevin(half) if half < _SERIES_BELOW else 1.0 / math.tanh(half) - 1.0 / half
    return own + step * rest


def _langevin(z: Scalar) -> Scalar:
    """Returns coth(z) - 1 / z of a small z, by its series; to 1e-11 up to `_SERIES_BELOW`."""
    square = z * z
    series = 2 / 93555
    for coefficient in (-1 / 4725, 2 / 945, -1 / 45, 1 / 3):
        series = series * square + coefficient
    return z * series
