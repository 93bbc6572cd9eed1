"""Lion, EvoLved Sign Momentum."""

from types import ModuleType
from typing import ClassVar

from pydantic import Field

from optim.algorithm import Algorithm, Array, Scalar


class Lion(Algorithm):
    """Lion: the sign of an interpolated momentum, in half the state of Adam.

        u  = sign(beta1 * m + (1 - beta1) * g)
        m <- beta2 * m + (1 - beta2) * g
        w <- w - lr * (u + weight_decay * w)

    Every weight moves by the learning rate, which so wants to be 3 to 10 times smaller than
    AdamW's, and the decay as much larger.

    Reference: Chen et al., "Symbolic Discovery of Optimization Algorithms", Algorithm 2,
    https://arxiv.org/abs/2302.06675. Defaults are those of the authors' code.
    """

    name: ClassVar[str] = "lion"
    slots: ClassVar[tuple[str, ...]] = ("momentum",)

    learning_rate: float = Field(default=1e-4, ge=0)
    beta1: float = Field(
        default=0.9, ge=0, lt=1, description="share of the momentum in the sign that is the update"
    )
    beta2: float = Field(default=0.99, ge=0, lt=1, description="decay of the momentum")

    def scalars(self, xp: ModuleType, step: Scalar) -> dict[str, Scalar]:
        return {}

    def direction(
        self, xp: ModuleType, scalars: dict[str, Scalar], grad: Array, *slots: Array
    ) -> tuple[Array, ...]:
        (m,) = slots
        ahead = self.beta1 * m + (1 - self.beta1) * grad
        # A sign would hide that a gradient was infinite or no number: PyTorch's sign of NaN is 0.
        u = xp.where(xp.isfinite(ahead), xp.sign(ahead), ahead)
        return u, self.beta2 * m + (1 - self.beta2) * grad
