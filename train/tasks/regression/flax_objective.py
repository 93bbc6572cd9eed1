"""The squared error in JAX; `torch_objective.py` is its twin."""

import math

import jax
import jax.numpy as jnp

from train.tasks.task import Objective


def objective(*, huber_delta: float | None) -> Objective:
    """Returns the loss of outputs `[batch, num_targets]` for targets alike, with `mae` and `mse`.

    The sampled loss has targets drawn from the normal distribution of deviation 1 around each
    output; the mean square of its gradient is the diagonal of the Gauss-Newton matrix of the
    squared error, which is at least that of the Huber loss.

    Reference: Huber, "Robust Estimation of a Location Parameter", 1964; twice his, so that it is
    the squared error near 0.
    """

    def loss(outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        errors = outputs - targets
        squares, sizes = errors**2, jnp.abs(errors)
        terms = squares
        if huber_delta is not None:
            linear = 2 * huber_delta * sizes - huber_delta**2
            terms = jnp.where(sizes <= huber_delta, squares, linear)
        return terms.mean(), {"mae": sizes.mean(), "mse": squares.mean()}

    def sampled_loss(outputs: jax.Array, targets: jax.Array, noise: jax.Array) -> jax.Array:
        # The error of a sample is its noise: half the square's gradient is noise times that of the
        # output. The second derivative of the mean square of num_targets errors is 2 / num_targets.
        slopes = noise * math.sqrt(2 / outputs.shape[-1])
        return (slopes * outputs).sum(axis=-1).mean()

    return Objective(loss, sampled_loss)
