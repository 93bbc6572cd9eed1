"""What an optimizer is, apart from any framework: hyperparameters, state and an element-wise rule.

A subclass states its rule once, in arithmetic that numpy, torch and JAX share:
`optim.torch.optimizer` and `optim.jax.transformation` drive it. Weights move by

    w <- w - lr * (u + weight_decay * w)                             decoupled decay
    w <- (w - lr * u) / (1 + lr * weight_decay)                      proximal decay

where the direction `u` is the rule's.
"""

import math
from abc import ABC, abstractmethod
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from base.config import STRICT_INTEGER, Section

# Of one framework: an array, or a tensor.
Array = Any

# A number, or in JAX an array of one.
Scalar = Any


class Algorithm(Section, ABC):
    """Hyperparameters of one optimizer; checked, immutable, and part of a run's configuration.

    Raises:
      pydantic.ValidationError (a ValueError): A name is unknown or a value out of its range.
    """

    # In configurations.
    name: ClassVar[str]

    # The tensors kept for each weight tensor, alike in shape and zero at first.
    slots: ClassVar[tuple[str, ...]]

    # Those of them that hold no negative numbers.
    squares: ClassVar[frozenset[str]] = frozenset()

    # Whether it takes estimates of the Hessian's diagonal, of which its slot "curvature" is made.
    uses_curvature: ClassVar[bool] = False

    # What `marks` tells of every weight.
    mark_names: ClassVar[tuple[str, ...]] = ()

    learning_rate: float = Field(
        ge=0, description="of an update; in a run, the highest one of its schedule"
    )
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        description="share of a weight, times the rate, taken off at an update",
    )

    state_bits: Annotated[Literal[8, 32], STRICT_INTEGER] = Field(
        default=32, description="in which state of tensors that are not small is kept, a value"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_plain_numbers(cls, values: Any) -> Any:
        """Takes numbers of numpy's, and arrays and tensors of one number, as Python's."""
        if not isinstance(values, dict):
            return values
        return {key: _plain(value) for key, value in values.items()}

    @property
    def decay_is_proximal(self) -> bool:
        """Whether decay divides by `1 + lr * weight_decay`; see above."""
        return False

    @abstractmethod
    def scalars(self, xp: ModuleType, step: Scalar) -> dict[str, Scalar]:
        """Returns what depends on nothing but the step, for `direction`.

        Args:
          xp: `numpy` or `jax.numpy`.
          step: The update's number, counted from 1.
        """

    @abstractmethod
    def direction(
        self, xp: ModuleType, scalars: dict[str, Scalar], grad: Array, *slots: Array
    ) -> tuple[Array, ...]:
        """Returns `u` and the new value of each slot.

        Args:
          xp: `torch` or `jax.numpy`.
          scalars: What `scalars` returned.
          grad: The gradient, at least float32.
          *slots: In the order of `self.slots`, of the gradient's shape and dtype.
        """

    def wants_curvature(self, step: int) -> bool:
        """Whether an estimate is due before the update of this step, counted from 0."""
        return False

    def new_curvature(self, curvature: Array, estimate: Array) -> Array:
        """Returns the slot "curvature" after an estimate of the Hessian's diagonal.

        Raises:
          TypeError: It uses none.
        """
        raise self._has_no_curvature()

    def require_curvature(self) -> None:
        """Refuses an estimate that it has no use for.

        Raises:
          TypeError: It uses none.
        """
        if not self.uses_curvature:
            raise self._has_no_curvature()

    def _has_no_curvature(self) -> TypeError:
        return TypeError(f"{type(self).__name__} has no curvature to estimate")

    def marks(self, xp: ModuleType, *slots: Array) -> dict[str, Array]:
        """Returns what is worth knowing of the latest step: of each name a bool for every weight.

        The frameworks' sides report the fractions of weights that have the marks.

        Args:
          xp: `torch` or `jax.numpy`.
          *slots: What the step left, in the order of `self.slots`.
        """
        return {}

    def change(self, param: Array, u: Array, rate: Scalar, weight_decay: Scalar) -> Array:
        """Returns what to add to `param`.

        Args:
          param: The weights.
          u: The direction.
          rate: The learning rate of this step.
          weight_decay: `self.weight_decay`, or 0 for weights that do not decay.
        """
        change = (u + weight_decay * param) * -rate
        return change / (1.0 + rate * weight_decay) if self.decay_is_proximal else change


def require_algorithm(value: object) -> None:
    """Refuses what is no algorithm, such as the name or the class of one.

    Raises:
      TypeError: It is none.
    """
    if not isinstance(value, Algorithm):
        raise TypeError(
            f"expected an algorithm with its hyperparameters, such as Lion(), got {value!r}; "
            "optim.registry.algorithm takes a name"
        )


def debias(xp: ModuleType, beta: float, step: Scalar) -> Scalar:
    """Returns `1 / (1 - beta**step)`: what makes a moving average from zero unbiased.

    `1 - beta**step` itself would lose four digits in float32 for a `beta` of 0.999.
    """
    return 1.0 if beta == 0.0 else -1.0 / xp.expm1(step * math.log(beta))


def _plain(value: Any) -> Any:
    is_array_of_one = hasattr(value, "item") and math.prod(value.shape) == 1
    has_no_memory = getattr(value, "is_meta", False)
    return value.item() if is_array_of_one and not has_no_memory else value
