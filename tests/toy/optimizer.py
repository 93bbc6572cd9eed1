"""Gradient descent with momentum, as an optimizer that no kernel knows."""

from types import ModuleType
from typing import ClassVar

from pydantic import Field

from optim.algorithm import Algorithm, Array, Scalar


class HeavyBall(Algorithm):
    """Polyak's momentum: `m <- beta * m + g`, `u = m`."""

    name: ClassVar[str] = "toy_heavy_ball"
    slots: ClassVar[tuple[str, ...]] = ("momentum",)

    learning_rate: float = Field(default=0.1, ge=0)
    beta: float = Field(default=0.9, ge=0, lt=1)

    def scalars(self, xp: ModuleType, step: Scalar) -> dict[str, Scalar]:
        return {}

    def direction(
        self, xp: ModuleType, scalars: dict[str, Scalar], grad: Array, *slots: Array
    ) -> tuple[Array, ...]:
        momentum = self.beta * slots[0] + grad
        return momentum, momentum
