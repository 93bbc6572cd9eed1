"""Adan, Adaptive Nesterov Momentum."""

from types import ModuleType
from typing import ClassVar, Literal

from pydantic import Field

from optim.algorithm import Algorithm, Array, Scalar, debias


class Adan(Algorithm):
    """Adan: Nesterov momentum without the extra gradient, from differences of gradients.

        d  = g - g_previous                                  (0 at the first step)
        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * d
        n <- beta3 * n + (1 - beta3) * (g + beta2 * d)**2
        u  = (m / (1 - beta1**t) + beta2 * v / (1 - beta2**t))
             / (sqrt(n / (1 - beta3**t)) + epsilon)
        w <- (w - lr * u) / (1 + lr * weight_decay)          decay: proximal
        w <- w - lr * (u + weight_decay * w)                 decay: decoupled

    Betas are those of the authors' code: 1 minus those of the paper. So the weight of `d`, `v` is
    beta2 (0.92), which is the paper's `1 - beta2`.

    Reference: Xie et al., "Adan", Algorithm 1, https://arxiv.org/abs/2208.06677. Defaults and bias
    corrections are those of the authors' code.
    """

    name: ClassVar[str] = "adan"
    slots: ClassVar[tuple[str, ...]] = (
        "momentum",
        "difference_momentum",
        "second_moment",
        "previous_gradient",
    )
    squares: ClassVar[frozenset[str]] = frozenset({"second_moment"})

    learning_rate: float = Field(default=1e-3, ge=0)
    beta1: float = Field(default=0.98, ge=0, lt=1, description="decay of the mean of gradients")
    beta2: float = Field(
        default=0.92, ge=0, lt=1, description="decay of the mean of their differences"
    )
    beta3: float = Field(
        default=0.99,
        ge=0,
        lt=1,
        description="decay of the mean of squares of gradients, with differences",
    )
    epsilon: float = Field(default=1e-8, gt=0, description="added to the root of that mean")
    decay: Literal["proximal", "decoupled"] = Field(
        default="proximal", description="divide weights by 1 + rate * weight_decay, or take it off"
    )

    @property
    def decay_is_proximal(self) -> bool:
        return self.decay == "proximal"

    def scalars(self, xp: ModuleType, step: Scalar) -> dict[str, Scalar]:
        return {
            "momentum": debias(xp, self.beta1, step),
            "difference_momentum": self.beta2 * debias(xp, self.beta2, step),
            "second_moment": debias(xp, self.beta3, step),
            "has_previous": xp.where(step > 1, 1.0, 0.0),
        }

    def direction(
        self, xp: ModuleType, scalars: dict[str, Scalar], grad: Array, *slots: Array
    ) -> tuple[Array, ...]:
        m, v, n, previous = slots
        difference = (grad - previous) * scalars["has_previous"]
        ahead = grad + self.beta2 * difference
        m = self.beta1 * m + (1 - self.beta1) * grad
        v = self.beta2 * v + (1 - self.beta2) * difference
        n = self.beta3 * n + (1 - self.beta3) * (ahead * ahead)
        numerator = m * scalars["momentum"] + v * scalars["difference_momentum"]
        u = numerator / (xp.sqrt(n * scalars["second_moment"]) + self.epsilon)
        return u, m, v, n, grad
