"""The schedules of `optim.schedule` for optax, which calls them with a traced count.

    schedule = partial(warmup_cosine, peak=1e-3, num_steps=5000, warmup_steps=500)
    optimizer = transformation(Lion(), tabulate(schedule, num_steps=5000))

A plain function of the step branches on it, which a traced count does not allow.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax


def tabulate(schedule: Callable[[int], float], num_steps: int) -> optax.Schedule:
    """Returns the schedule as a table, so that it works under jit.

    Args:
      schedule: A plain function of the step, counted from 0.
      num_steps: After so many steps the rate stays as it is: `schedule(num_steps)`.

    Returns:
      A function of the updates made, an integer [] that may be traced; it gives float32 [].
    """
    rates = np.array([schedule(step) for step in range(num_steps + 1)], np.float32)

    def rate(count: jax.typing.ArrayLike) -> jax.Array:
        return jnp.asarray(rates)[jnp.minimum(count, num_steps)]

    return rate
