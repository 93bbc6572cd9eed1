"""Sophia, Second-order Clipped Stochastic Optimization."""

import math
from types import ModuleType
from typing import ClassVar

from pydantic import Field

from optim.algorithm import Algorithm, Array, Scalar


class Sophia(Algorithm):
    """Sophia: momentum divided by an estimate of the Hessian's diagonal, and clipped.

        h <- beta2 * h + (1 - beta2) * h_estimated           every `curvature_every` steps
        m <- beta1 * m + (1 - beta1) * g
        u  = clip(m / max(gamma * h, epsilon), -1, 1)
        w <- w - lr * (u + weight_decay * w)

    Two estimates of the diagonal serve: Gauss-Newton-Bartlett, `batch_size * g**2` of the gradient
    `g` of the mean loss to labels sampled from the model's own outputs; and Hutchinson's,
    `x * (H @ x)` for a random x. `optim.torch.curvature` and `optim.jax.curvature` have both. A
    step's estimate comes before its update, and the first step has one.

    gamma is right where 10% to 50% of the directions are not clipped, as reported as "clipped" by
    `fractions` of the two frameworks' sides.

    Reference: Liu et al., "Sophia", Algorithm 3, https://arxiv.org/abs/2305.14342. Defaults are
    those of the paper and the authors' code for Sophia-G; for Hutchinson's estimate the paper has
    gamma 0.01.
    """

    name: ClassVar[str] = "sophia"
    slots: ClassVar[tuple[str, ...]] = ("momentum", "curvature")
    uses_curvature: ClassVar[bool] = True
    mark_names: ClassVar[tuple[str, ...]] = ("clipped",)

    learning_rate: float = Field(default=6e-4, ge=0)
    weight_decay: float = Field(default=0.2, ge=0)
    beta1: float = Field(default=0.965, ge=0, lt=1, description="decay of the mean of gradients")
    beta2: float = Field(default=0.99, ge=0, lt=1, description="decay of the mean of curvatures")
    gamma: float = Field(
        default=0.05, gt=0, description="factor of the curvature that divides the mean"
    )
    epsilon: float = Field(default=1e-12, gt=0, description="least that divides it")
    curvature_every: int = Field(
        default=10, ge=1, description="updates from one estimate of the curvature to the next"
    )

    def wants_curvature(self, step: int) -> bool:
        return step % self.curvature_every == 0

    def scalars(self, xp: ModuleType, step: Scalar) -> dict[str, Scalar]:
        return {}

    def direction(
        self, xp: ModuleType, scalars: dict[str, Scalar], grad: Array, *slots: Array
    ) -> tuple[Array, ...]:
        m, h = slots
        m = self.beta1 * m + (1 - self.beta1) * grad
        u = xp.clip(self._ratio(xp, m, h), min=-1.0, max=1.0)
        # A ratio may overflow; what it is of may not be infinite, which clipping would hide.
        return xp.where(xp.isfinite(m) & xp.isfinite(h), u, math.nan), m, h

    def marks(self, xp: ModuleType, *slots: Array) -> dict[str, Array]:
        return {"clipped": xp.abs(self._ratio(xp, *slots)) >= 1.0}

    def _ratio(self, xp: ModuleType, momentum: Array, curvature: Array) -> Array:
        return momentum / xp.clip(self.gamma * curvature, min=self.epsilon)

    def new_curvature(self, curvature: Array, estimate: Array) -> Array:
        return self.beta2 * curvature + (1 - self.beta2) * estimate
