"""AdamW, the baseline."""

from types import ModuleType
from typing import ClassVar

from pydantic import Field

from optim.algorithm import Algorithm, Array, Scalar, debias


class AdamW(Algorithm):
    """AdamW: Adam with decoupled weight decay.

        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g**2
        u  = m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + epsilon)
        w <- w - lr * (u + weight_decay * w)

    Reference: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", Algorithm 2,
    https://arxiv.org/abs/1711.05101. Decay is multiplied by the learning rate, as in torch and
    optax. Defaults are those of both but for the decay, which is 0.
    """

    name: ClassVar[str] = "adamw"
    slots: ClassVar[tuple[str, ...]] = ("momentum", "second_moment")
    squares: ClassVar[frozenset[str]] = frozenset({"second_moment"})

    learning_rate: float = Field(default=1e-3, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of the mean of gradients")
    beta2: float = Field(
        default=0.999, ge=0, lt=1, description="decay of the mean of their squares"
    )
    epsilon: float = Field(default=1e-8, gt=0, description="added to the root of that mean")

    def scalars(self, xp: ModuleType, step: Scalar) -> dict[str, Scalar]:
        return {
            "momentum": debias(xp, self.beta1, step),
            "second_moment": debias(xp, self.beta2, step),
        }

    def direction(
        self, xp: ModuleType, scalars: dict[str, Scalar], grad: Array, *slots: Array
    ) -> tuple[Array, ...]:
        m, v = slots
        m = self.beta1 * m + (1 - self.beta1) * grad
        v = self.beta2 * v + (1 - self.beta2) * (grad * grad)
        u = m * scalars["momentum"] / (xp.sqrt(v * scalars["second_moment"]) + self.epsilon)
        return u, m, v
