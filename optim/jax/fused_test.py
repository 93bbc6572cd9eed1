"""The fused step against the transformation, and against torch's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from kernels.dispatch import ENVIRONMENT_VARIABLE, UnsupportedKernelError
from kernels.optimizer_step import jax_op
from optim.algorithm import Algorithm
from optim.jax import fused
from optim.jax.transformation import matrices, transformation
from optim.jax.ways import WAYS, in_two
from optim.registry import ALGORITHMS, algorithm
from optim.torch.optimizer import Optimizer

_SHAPES = {"kernel": (70, 71), "bias": (71,), "scale": (), "table": (130, 40)}
_STEPS = 6


def _trees(dtype: Any) -> tuple[Any, list[Any]]:
    rng = np.random.default_rng(0)

    def draw() -> Any:
        return {
            name: jnp.asarray(rng.standard_normal(shape), dtype) for name, shape in _SHAPES.items()
        }

    return draw(), [draw() for _ in range(_STEPS)]


def _curvature(rule: Algorithm, index: int, grads: Any) -> dict[str, Any]:
    if rule.name != "sophia" or index % 3:
        return {}
    return {"curvature": jax.tree.map(lambda g: 10.0 * g * g, grads)}


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_is_the_transformation(name: str, dtype: Any) -> None:
    rule = algorithm(name, weight_decay=0.1, learning_rate=0.01)
    start, all_grads = _trees(dtype)
    schedule = optax.linear_schedule(0.02, 0.01, _STEPS)
    optimizer = transformation(rule, schedule, mask=matrices)
    params, state = start, optimizer.init(start)
    fused_params, fused_state = params, state
    update = jax.jit(optimizer.update)
    step = jax.jit(
        lambda params, state, grads, **more: fused.step(
            rule, params, state, grads, learning_rate=schedule, mask=matrices, **more
        )
    )
    for index, grads in enumerate(all_grads):
        more = _curvature(rule, index, grads)
        updates, state = update(grads, state, params, **more)
        params = optax.apply_updates(params, updates)
        fused_params, fused_state = step(fused_params, fused_state, grads, **more)
    assert jax.tree.map(jax.typeof, fused_state) == jax.tree.map(jax.typeof, state)
    # Of bfloat16 the update is rounded before it is added, and here the sum alone.
    tolerance = 1e-6 if dtype == jnp.float32 else 2e-2
    for a, b in zip(
        jax.tree.leaves((fused_params, fused_state)), jax.tree.leaves((params, state)), strict=True
    ):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_bytes_of_state_are_those_of_torch(name: str) -> None:
    """Both call one binary; what differs is the scalars, which XLA computes in float32."""
    rule = algorithm(name, state_bits=8, learning_rate=0.01)
    params, all_grads = _trees(jnp.float32)
    state = transformation(rule).init(params)
    names = sorted(_SHAPES)
    tensors = [torch.tensor(np.asarray(params[name]), requires_grad=True) for name in names]
    optimizer = Optimizer(tensors, rule)
    for grads in all_grads:
        params, state = fused.step(rule, params, state, grads)
        for tensor, name in zip(tensors, names, strict=True):
            tensor.grad = torch.tensor(np.asarray(grads[name]))
        optimizer.step()
    for tensor, name in zip(tensors, names, strict=True):
        np.testing.assert_allclose(params[name], tensor.detach(), rtol=1e-6, atol=1e-7)
        for slot in rule.slots:
            ours, theirs = state.slots[slot][name], optimizer.state[tensor][slot].numpy()
            assert ours.dtype == theirs.dtype
            if ours.dtype == np.uint8:
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_bytes_of_the_transformation_are_those_of_the_fused_step(name: str) -> None:
    rule = algorithm(name, state_bits=8, learning_rate=0.01)
    start, all_grads = _trees(jnp.float32)
    optimizer = transformation(rule)
    params, state = start, optimizer.init(start)
    fused_params, fused_state = params, state
    for grads in all_grads:
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        fused_params, fused_state = fused.step(rule, fused_params, fused_state, grads)
    assert {x.dtype for x in jax.tree.leaves(state.slots)} >= {np.dtype(np.uint8)}
    for key in start:
        np.testing.assert_allclose(params[key], fused_params[key], rtol=1e-4, atol=1e-5)


def test_donated_arrays_are_updated_in_their_memory() -> None:
    rule = algorithm("adamw")
    params, (grads, *_) = _trees(jnp.float32)
    state = transformation(rule).init(params)
    step = jax.jit(
        lambda params, state, grads: fused.step(rule, params, state, grads), donate_argnums=(0, 1)
    )
    params, state = jax.block_until_ready(step(params, state, grads))
    before = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, state.slots))]
    params, state = step(params, state, grads)
    assert before == [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, state.slots))]


def test_arrays_that_are_not_donated_stay_as_they_are() -> None:
    rule = algorithm("lion")
    params, (grads, *_) = _trees(jnp.float32)
    state = transformation(rule).init(params)
    copies = jax.tree.map(np.array, (params, state))
    fused.step(rule, params, state, grads)
    jax.tree.map(np.testing.assert_array_equal, copies, (params, state))


def _assert_follows_the_rule(rule: Algorithm, params: Any, grads: Any, **more: Any) -> None:
    """Without a kernel, the fused step is what optax does."""
    state = transformation(rule).init(params)
    results = [
        jax.jit(lambda *trees, step=step: step(rule, *trees, mask=matrices, **more))
        for step in (fused.step, in_two)
    ]
    ours, expected = (run(params, state, grads) for run in results)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
    assert not any(np.array_equal(ours[0][name], params[name]) for name in params)


@pytest.mark.parametrize(
    ("name", "backend", "state_bits"),
    [
        *((name, "reference", 8) for name in ALGORITHMS),
        ("adamw", "triton", 32),
        ("sophia", "cuda", 32),
    ],
)
def test_follows_the_rule_if_asked_to(
    name: str, backend: str, state_bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, (grads, *_) = _trees(jnp.bfloat16)
    rule = algorithm(name, weight_decay=0.1, learning_rate=0.1, state_bits=state_bits)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
    monkeypatch.setattr(jax_op, "step", None)
    _assert_follows_the_rule(rule, params, grads, **_curvature(rule, 0, grads))


# Where every algorithm follows its paper in float64 is trajectory_test.py.
@pytest.mark.parametrize("name", ["adan", "sophia"])
def test_float64_follows_the_rule(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax_op, "step", None)
    with jax.enable_x64(True):
        params, (grads, *_) = _trees(jnp.float64)
        rule = algorithm(name, weight_decay=0.1, learning_rate=0.1)
        _assert_follows_the_rule(rule, params, grads, **_curvature(rule, 0, grads))


def test_refuses_a_backend_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rule, params = algorithm("adamw"), {"w": jnp.ones(3)}
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "fastest")
    with pytest.raises(UnsupportedKernelError, match="got 'fastest'"):
        fused.step(rule, params, transformation(rule).init(params), params)


@pytest.mark.parametrize("step", WAYS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_of_no_parameters(name: str, step: Any) -> None:
    rule = algorithm(name)
    params, state = step(rule, {}, transformation(rule).init({}), {})
    assert params == {}
    assert (state.count, state.slots) == (1, {slot: {} for slot in rule.slots})


@pytest.mark.parametrize("step", WAYS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_gradient_that_is_not_a_number_makes_its_own_weight_so(name: str, step: Any) -> None:
    rule = algorithm(name, weight_decay=0.1)
    params = {"w": jnp.zeros(100), "other": jnp.zeros(3)}
    grads = {"w": jnp.ones(100).at[7].set(jnp.nan), "other": jnp.ones(3)}
    state = transformation(rule).init(params)
    for _ in range(2):
        params, state = step(rule, params, state, grads)
        assert np.flatnonzero(np.isnan(params["w"])).tolist() == [7]
        assert np.isfinite(params["other"]).all()


def test_refuses_what_it_cannot_do() -> None:
    params = {"w": jnp.ones(3)}
    rule = algorithm("adamw")
    state = transformation(rule).init(params)
    with pytest.raises(TypeError, match="AdamW has no curvature"):
        fused.step(rule, params, state, params, curvature=params)
    with pytest.raises(ValueError, match="gradient of float32.* use optim.jax.transformation"):
        fused.step(rule, {"w": jnp.ones(3, jnp.float16)}, state, params)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_decay_of_a_changing_strength_is_that_of_a_changing_rule(name: str) -> None:
    rule = algorithm(name, weight_decay=0.4, learning_rate=0.05)
    scales = np.linspace(0.0, 1.0, _STEPS, dtype=np.float32)
    params, all_grads = _trees(jnp.float32)
    state = transformation(rule).init(params)
    expected, expected_state = params, state
    step = jax.jit(
        lambda params, state, grads, scale: fused.step(
            rule, params, state, grads, mask=matrices, decay_scale=scale
        )
    )
    for scale, grads in zip(scales, all_grads, strict=True):
        of_step = rule.model_copy(update={"weight_decay": 0.4 * float(scale)})
        expected, expected_state = in_two(of_step, expected, expected_state, grads, mask=matrices)
        params, state = step(params, state, grads, scale)
    assert step._cache_size() == 1  # strengths are data
    for key, weights in expected.items():
        np.testing.assert_allclose(params[key], weights, rtol=1e-5, atol=1e-6, err_msg=key)
