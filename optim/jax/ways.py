"""Both ways to update weights in JAX, with one signature, for tests."""

from collections.abc import Callable

import optax

from optim.algorithm import Algorithm
from optim.jax import fused
from optim.jax.transformation import Mask, State, transformation


def in_two(
    algorithm: Algorithm,
    params: optax.Params,
    state: State,
    grads: optax.Updates,
    *,
    learning_rate: optax.ScalarOrSchedule | None = None,
    mask: Mask | None = None,
    curvature: optax.Params | None = None,
) -> tuple[optax.Params, State]:
    """As `fused.step`, in the two passes of optax."""
    optimizer = transformation(algorithm, learning_rate, mask=mask)
    updates, state = optimizer.update(grads, state, params, curvature=curvature)
    return optax.apply_updates(params, updates), state


WAYS: list[Callable[..., tuple[optax.Params, State]]] = [in_two, fused.step]
