"""Weight decay of a strength that changes from step to step, apart from the rest of a step."""

import jax
import jax.numpy as jnp
import optax

from optim.algorithm import Algorithm
from optim.jax.rates import rate_at
from optim.jax.slots import arithmetic_dtype
from optim.jax.transformation import Mask, decays


class Decay:
    """The decay of one step, times a factor.

    Directions do not depend on the weights, so `w - lr * (u + weight_decay * w)` is what is left of
    `w` after the decay, `w * (1 - lr * weight_decay)`, and then `- lr * u`; and proximal decay,
    `(w - lr * u) / (1 + lr * weight_decay)`, comes last.

    Args:
      algorithm: With its weight decay.
      learning_rate: As of `optim.jax.transformation`.
      mask: Likewise.
      count: The updates made so far.
      scale: The factor, which may be traced.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        learning_rate: optax.ScalarOrSchedule | None,
        mask: Mask | None,
        count: jax.Array,
        scale: jax.typing.ArrayLike,
    ):
        rate = jnp.asarray(rate_at(algorithm, learning_rate, count))
        self._lost = rate * (algorithm.weight_decay * jnp.asarray(scale))
        self._is_proximal = algorithm.decay_is_proximal
        self._mask = mask

    def before(self, params: optax.Params) -> optax.Params:
        """Returns the weights of which the rest of the step, without decay, is to be made."""
        return params if self._is_proximal else self._times(params, 1.0 - self._lost)

    def after(self, params: optax.Params) -> optax.Params:
        """Returns the weights after the step, of those that the rest of it has left."""
        return self._times(params, 1.0 / (1.0 + self._lost)) if self._is_proximal else params

    def _times(self, params: optax.Params, factor: jax.Array) -> optax.Params:
        leaves, structure = jax.tree.flatten(params)
        marks = decays(self._mask, params)
        return structure.unflatten(
            [
                (leaf.astype(arithmetic_dtype(leaf)) * factor).astype(leaf.dtype) if mark else leaf
                for leaf, mark in zip(leaves, marks, strict=True)
            ]
        )
