"""A table has the values of its function, traced or not."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optim.jax.schedule import tabulate
from optim.jax.transformation import transformation
from optim.jax.ways import WAYS
from optim.lion import Lion
from optim.schedule import (
    warmup_cosine,
    warmup_cosine_restarts,
    warmup_polynomial,
    warmup_stable_decay,
)

_NUM_STEPS = 40
_SETTINGS: dict[str, Any] = {
    "peak": 0.3,
    "num_steps": _NUM_STEPS,
    "warmup_steps": 7,
    "final_fraction": 0.1,
}
_SCHEDULES = [
    partial(warmup_cosine, **_SETTINGS),
    partial(warmup_polynomial, **_SETTINGS, power=2.0),
    partial(warmup_stable_decay, **_SETTINGS, decay_steps=11),
    partial(warmup_cosine_restarts, **_SETTINGS, num_restarts=2, growth=1.5),
]


@pytest.mark.parametrize("schedule", _SCHEDULES)
def test_is_the_function_at_every_step(schedule: Callable[[int], float]) -> None:
    table = tabulate(schedule, _NUM_STEPS)
    traced = jax.jit(table)
    for step in [*range(_NUM_STEPS + 3), 10**6]:
        expected = np.float32(schedule(step))
        assert table(step) == traced(step) == traced(jnp.int32(step)) == expected


@pytest.mark.parametrize("way", WAYS)
def test_gives_each_update_its_rate(way: Any) -> None:
    """A step of Lion is the rate."""
    schedule, rule = _SCHEDULES[0], Lion()
    table = tabulate(schedule, _NUM_STEPS)
    step = jax.jit(lambda w, state: way(rule, w, state, jnp.ones(1), learning_rate=table))
    w = jnp.zeros(1)
    state = transformation(rule).init(w)
    moved = 0.0
    for index in range(_NUM_STEPS + 3):
        w, state = step(w, state)
        moved -= schedule(index)
        np.testing.assert_allclose(w, moved, rtol=1e-5)
    assert step._cache_size() == 1
