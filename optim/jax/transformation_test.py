"""What optax expects of a transformation, and what a transformation refuses."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optim.adamw import AdamW
from optim.jax.transformation import fractions, matrices, transformation
from optim.jax.ways import WAYS
from optim.lion import Lion
from optim.registry import ALGORITHMS, algorithm
from optim.sophia import Sophia

_PARAMS = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2), "scale": jnp.float32(2.0)}
_GRADS = jax.tree.map(lambda x: 0.1 * x, _PARAMS)


def _run(optimizer: Any, num_steps: int) -> Any:
    @jax.jit
    def advance(step: int, params: Any, state: Any) -> Any:
        grads = jax.tree.map(lambda x: jnp.cos(step * x), params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params, state = _PARAMS, optimizer.init(_PARAMS)
    for step in range(num_steps):
        params, state = advance(step, params, state)
    return params


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (AdamW(weight_decay=0.1), optax.adamw(1e-3, weight_decay=0.1, mask=matrices)),
        (Lion(weight_decay=0.1), optax.lion(1e-4, weight_decay=0.1, mask=matrices)),
    ],
)
def test_is_that_of_optax_where_optax_is_right(ours: Any, theirs: Any) -> None:
    a, b = _run(transformation(ours, mask=matrices), 50), _run(theirs, 50)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), a, b)


def test_adan_of_optax_is_another() -> None:
    """That of optax 0.2.8 weighs the difference of gradients by 1 - b2 instead of b2."""
    ours = _run(transformation(algorithm("adan", decay="decoupled")), 50)
    theirs = _run(optax.adan(1e-3, eps_root=0.0), 50)
    assert abs(ours["kernel"] - theirs["kernel"]).max() > 1e-3


@pytest.mark.parametrize("name", ALGORITHMS)
def test_compiles_once_and_keeps_types(name: str) -> None:
    optimizer = transformation(algorithm(name, weight_decay=0.1))
    update = jax.jit(optimizer.update)
    state = optimizer.init(_PARAMS)
    updates, new = update(_GRADS, state, _PARAMS)
    update(_GRADS, new, _PARAMS)
    assert update._cache_size() == 1
    assert jax.tree.map(jax.typeof, new) == jax.tree.map(jax.typeof, state)
    assert jax.tree.map(jax.typeof, updates) == jax.tree.map(jax.typeof, _PARAMS)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_state_of_bfloat16_is_float32(name: str) -> None:
    params = {"w": jnp.ones(4, jnp.bfloat16)}
    optimizer = transformation(algorithm(name))
    state = optimizer.init(params)
    updates, new = optimizer.update(params, state, params)
    assert updates["w"].dtype == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(new.slots)} == {jnp.dtype(jnp.float32)}


def test_composes_with_optax() -> None:
    inner = optax.chain(optax.clip_by_global_norm(1.0), transformation(AdamW()))
    optimizer = optax.apply_if_finite(optax.MultiSteps(inner, 2), max_consecutive_errors=3)
    state = optimizer.init(_PARAMS)
    infinite = jax.tree.map(lambda x: jnp.full_like(x, jnp.inf), _PARAMS)
    updates, state = optimizer.update(infinite, state, _PARAMS)
    assert all(not x.any() for x in jax.tree.leaves(updates))
    for expected in (False, True):
        updates, state = optimizer.update(_GRADS, state, _PARAMS)
        assert all(x.any() == expected for x in jax.tree.leaves(updates))


def test_curvature_is_used_by_the_same_update_and_clipping_reported() -> None:
    settings = Sophia(learning_rate=1.0, weight_decay=0.0, beta1=0.0, beta2=0.5, gamma=1.0)
    params = {"w": jnp.ones(2)}
    optimizer = optax.chain(transformation(settings))
    (state,) = optimizer.init(params)
    updates, (state,) = optimizer.update(
        {"w": jnp.array([1.0, 16.0])}, (state,), params, curvature={"w": jnp.array([4.0, 16.0])}
    )
    np.testing.assert_array_equal(state.slots["curvature"]["w"], [2.0, 8.0])
    np.testing.assert_array_equal(updates["w"], [-0.5, -1.0])
    assert fractions(settings, state, params) == {"clipped": 0.5}


@pytest.mark.parametrize("step", [0, 1])
def test_multi_steps_keep_the_curvature_of_the_step_that_updates(step: int) -> None:
    settings = Sophia(beta2=0.5)
    optimizer = optax.MultiSteps(transformation(settings), 2)
    state = optimizer.init(_PARAMS)
    for index in range(2):
        more = {"curvature": _GRADS} if index == step else {}
        _, state = optimizer.update(_GRADS, state, _PARAMS, **more)
    kept = state.inner_opt_state.slots["curvature"]
    expected = jax.tree.map(lambda x: (0.5 if step == 1 else 0.0) * x, _GRADS)
    jax.tree.map(np.testing.assert_array_equal, kept, expected)


def test_fractions_count_weights_and_not_tensors() -> None:
    params = {"large": jnp.ones((7, 3)), "none": jnp.ones((0, 2)), "small": jnp.ones(())}
    settings = Sophia(beta1=0.0, gamma=1.0)
    state = transformation(settings).init(params)
    curvature = jax.tree.map(jnp.ones_like, params)
    momentum = curvature | {"large": jnp.zeros((7, 3)).at[:2].set(-1.0)}
    state = state._replace(slots={"momentum": momentum, "curvature": curvature})
    np.testing.assert_allclose(fractions(settings, state, params)["clipped"], 7 / 22, rtol=1e-6)


def test_fractions_of_more_weights_than_an_int32_counts() -> None:
    params = {name: jax.ShapeDtypeStruct((2**16, 2**15), jnp.float32) for name in "ab"}
    state = jax.eval_shape(transformation(Sophia()).init, params)
    fraction = jax.eval_shape(partial(fractions, Sophia()), state, params)["clipped"]
    assert (fraction.shape, fraction.dtype) == ((), jnp.float32)


def test_schedules_count_from_zero() -> None:
    optimizer = transformation(Lion(), lambda count: jnp.where(count == 0, 0.5, 0.25))
    params = {"w": jnp.zeros(1)}
    state = optimizer.init(params)
    for expected in (-0.5, -0.25):
        updates, state = optimizer.update({"w": jnp.ones(1)}, state, params)
        assert updates["w"] == expected


def test_refuses_what_it_cannot_do() -> None:
    optimizer = transformation(Lion())
    with pytest.raises(TypeError, match="real floating-point parameters, got complex64"):
        optimizer.init({"w": jnp.ones(2, jnp.complex64)})
    state = optimizer.init(_PARAMS)
    with pytest.raises(ValueError, match="params"):
        optimizer.update(_GRADS, state)
    with pytest.raises(TypeError, match="Lion has no curvature"):
        optimizer.update(_GRADS, state, _PARAMS, curvature=_GRADS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("ours", "theirs"), [("lion", "adamw"), ("adamw", "lion")])
def test_state_of_another_algorithm_is_refused(way: Any, ours: str, theirs: str) -> None:
    state = transformation(algorithm(theirs)).init(_PARAMS)
    slots = "; got ".join(", ".join(ALGORITHMS[name].slots) for name in (ours, theirs))
    with pytest.raises(ValueError, match=f"expected state of .*, which is {slots}"):
        way(algorithm(ours), _PARAMS, state, _GRADS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("given", ["lion", Lion, None])
def test_refuses_what_is_no_algorithm(way: Any, given: Any) -> None:
    with pytest.raises(TypeError, match=r"such as Lion\(\), got"):
        transformation(given)
    with pytest.raises(TypeError, match=r"such as Lion\(\), got"):
        way(given, _PARAMS, transformation(Lion()).init(_PARAMS), _GRADS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mark", ["no", 0.5, float("nan"), 1, np.ones(2, bool), jnp.array(False)])
def test_a_mask_has_nothing_but_bools(way: Any, mark: Any) -> None:
    state = transformation(Lion()).init(_PARAMS)
    step = partial(way, Lion(), _PARAMS, state, _GRADS)
    with pytest.raises(TypeError, match=r"for \['bias'\]; accepted: bool, numpy.bool_"):
        step(mask={"kernel": True, "bias": mark, "scale": np.False_})
    for mask in (mark, lambda _: mark):
        with pytest.raises(TypeError, match="for all parameters; accepted: bool, numpy.bool_"):
            step(mask=mask)
