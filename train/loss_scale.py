"""The factor by which the loss of a float16 network is multiplied, and its gradients divided again.

The gradients of activations are mostly too small for float16, whose least number is 6e-8. A factor
lifts them; where it is so large that one becomes infinite, the step is skipped and the factor made
smaller, and after many steps without that it is made larger again.

Reference: Micikevicius et al., "Mixed Precision Training", https://arxiv.org/abs/1710.03740; moves
are those of `torch.amp.GradScaler`, with DeepSpeed's hysteresis.
"""

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from train.config.precision import LossScalingConfig

_GREATEST = np.finfo(np.float32).max

# Of one framework: a number, or an array of one.
Scalar = Any


class LossScale(NamedTuple):
    """The state of the scaling, to be carried from step to step.

    Attributes:
        factor: float32, by which the loss is multiplied.
        good_steps: int32, steps without overflow since the factor last grew or one was skipped.
        patience: int32, overflows left until the factor shrinks.
    """

    factor: Scalar
    good_steps: Scalar
    patience: Scalar

    @staticmethod
    def initial(config: LossScalingConfig) -> "LossScale":
        """Returns the state before the first step."""
        return LossScale(np.float32(config.initial_scale), np.int32(0), np.int32(config.hysteresis))

    def after(self, xp: ModuleType, config: LossScalingConfig, is_finite: Scalar) -> "LossScale":
        """Returns the state after a step.

        Args:
            xp: `numpy` or `jax.numpy`.
            config: The rule.
            is_finite: bool, whether all gradients were finite; otherwise the step was skipped.
        """
        good_steps = xp.where(is_finite, self.good_steps + 1, 0)
        grows = good_steps >= config.growth_interval
        shrinks = xp.logical_and(xp.logical_not(is_finite), self.patience <= 1)
        can_grow = self.factor <= _GREATEST / np.float32(config.growth_factor)
        grown = self.factor * xp.where(can_grow, np.float32(config.growth_factor), 1)
        shrunk = xp.maximum(
            self.factor * np.float32(config.backoff_factor), np.float32(config.min_scale)
        )
        factor = xp.where(grows, grown, xp.where(shrinks, shrunk, self.factor))
        worn = xp.where(is_finite, self.patience, xp.maximum(self.patience - 1, 1))
        return LossScale(
            factor.astype(np.float32),
            xp.where(grows, 0, good_steps).astype(np.int32),
            xp.where(grows, config.hysteresis, worn).astype(np.int32),
        )
