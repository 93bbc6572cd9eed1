"""Learning rates are numbers that make sense, wherever they are known."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optim.jax.transformation import transformation
from optim.jax.ways import WAYS
from optim.lion import Lion

_PARAMS = {"w": jnp.zeros(2)}
_GRADS = {"w": jnp.ones(2)}

_BAD = [-1, -1e-3, math.nan, math.inf, -math.inf, True, "0.1", 1j, [0.1]]
_BAD += [10**400, np.str_("0.1"), np.array("0.1"), np.array(None)]
_BAD += [np.float32(-1), np.bool_(True), np.ones(2), jnp.float32(math.nan), jnp.ones(2)]


def _step(way: Any, rate: Any) -> Any:
    return way(Lion(), _PARAMS, transformation(Lion()).init(_PARAMS), _GRADS, learning_rate=rate)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rate", _BAD, ids=repr)
def test_what_is_no_rate_is_refused(way: Any, rate: Any) -> None:
    for given in (rate, lambda _: rate):
        with pytest.raises(ValueError, match="learning_rate"):
            _step(way, given)
    with pytest.raises(ValueError, match="learning_rate"):
        transformation(Lion(), rate)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "rate",
    [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), np.array([0.5]), jnp.float32(0.5)],
)
def test_numbers_of_every_library_are_rates(way: Any, rate: Any) -> None:
    for given in (rate, lambda _: rate):
        params, _ = _step(way, given)
        np.testing.assert_array_equal(params["w"], -0.5)


@pytest.mark.parametrize("way", WAYS)
def test_a_traced_rate_is_taken_as_it_is(way: Any) -> None:
    params, _ = jax.jit(lambda rate: _step(way, rate))(0.5)
    np.testing.assert_array_equal(params["w"], -0.5)
    with pytest.raises(ValueError, match="one real number as learning_rate"):
        jax.jit(lambda rate: _step(way, rate))(jnp.ones(2))


def test_a_rule_takes_the_same_numbers() -> None:
    assert Lion(learning_rate=np.float32(0.5)) == Lion(learning_rate=0.5)
    assert Lion(learning_rate=jnp.float32(0.5)) == Lion(learning_rate=0.5)
    with pytest.raises(ValueError, match="finite number"):
        Lion(learning_rate=np.float32(math.nan))
