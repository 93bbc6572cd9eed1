"""Linear attention as a JAX operation: jit, grad, vmap, scan, lowering and errors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from kernels.dispatch import UnsupportedKernelError
from kernels.linear_attention import contract, jax_op
from kernels.linear_attention.contract import State

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 4)

# Finite differences of float64 with JAX's step.
GRADIENT_TOLERANCE = 1e-6

Q_SHAPE, K_SHAPE, V_SHAPE = (2, 5, 4, 6), (2, 5, 2, 6), (2, 5, 2, 3)

FORMS: dict[str, dict[str, Any]] = {
    "elu": {},
    "relu": {"feature_map": "relu", "eps": 0.5},
    "retnet": {"feature_map": "identity", "normalize": False},
}


def _arrays(
    *shapes: tuple[int, ...], dtype: type = jnp.float64
) -> tuple[jax.Array, jax.Array, jax.Array]:
    # By numpy: XLA compiles a normal distribution for seconds, again for each shape.
    rng = np.random.default_rng(0)
    shapes = shapes or (Q_SHAPE, K_SHAPE, V_SHAPE)
    return tuple(jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes)


def _decay() -> jax.Array:
    return jnp.linspace(0.5, 1.0, 4)


def _state() -> State:
    rng = np.random.default_rng(1)
    return State(jnp.asarray(rng.random((2, 4, 6, 3))), jnp.asarray(rng.random((2, 4, 6))))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_gradients_match_finite_differences(form: dict[str, Any]) -> None:
    def run(q, k, v, decay, state):  # type: ignore[no-untyped-def]
        return jax_op.linear_attention(
            q, k, v, decay=decay, initial_state=state, return_state=True, **form
        )

    check_grads(
        run,
        (*_arrays(), _decay(), _state()),
        order=1,
        modes=["rev"],
        atol=GRADIENT_TOLERANCE,
        rtol=GRADIENT_TOLERANCE,
    )


def test_gradients_of_the_form_that_is_not_causal() -> None:
    check_grads(
        lambda *args: jax_op.linear_attention(*args, causal=False),
        _arrays(),
        order=1,
        modes=["rev"],
        atol=GRADIENT_TOLERANCE,
        rtol=GRADIENT_TOLERANCE,
    )


@pytest.mark.parametrize("wanted", range(2))
def test_gradient_of_half_a_state(wanted: int) -> None:
    check_grads(
        lambda *args: jax_op.linear_attention(*args, return_state=True)[1][wanted],
        _arrays(),
        order=1,
        modes=["rev"],
        atol=GRADIENT_TOLERANCE,
        rtol=GRADIENT_TOLERANCE,
    )


def test_jit_is_the_same_function() -> None:
    arrays = _arrays()
    eager = jax_op.linear_attention(*arrays)
    assert jnp.array_equal(jax.jit(jax_op.linear_attention)(*arrays), eager)


def test_scan_of_steps_is_the_sequence() -> None:
    q, k, v = _arrays((2, 150, 4, 6), (2, 150, 2, 6), (2, 150, 2, 3))
    want, after = jax_op.linear_attention(q, k, v, decay=_decay(), return_state=True)
    start = State(jnp.zeros((2, 4, 6, 3)), jnp.zeros((2, 4, 6)))

    def step(state: State, token: tuple[jax.Array, ...]) -> tuple[State, jax.Array]:
        out, state = jax_op.linear_attention_step(state, *token, decay=_decay())
        return state, out

    tokens = tuple(jnp.moveaxis(x, 1, 0) for x in (q, k, v))
    state, outs = jax.jit(lambda *args: jax.lax.scan(step, *args))(start, tokens)
    assert jnp.allclose(jnp.moveaxis(outs, 0, 1), want)
    assert jax.tree.all(jax.tree.map(jnp.allclose, state, after))


@pytest.mark.parametrize("in_axes", [(0, 0, 0, 0), (0, None, None, None), (None, 0, 0, 1)])
def test_vmap_is_a_loop(in_axes: tuple[int | None, ...]) -> None:
    shapes, rng = (Q_SHAPE, K_SHAPE, V_SHAPE, (4,)), np.random.default_rng(0)
    arrays = [
        jnp.asarray(rng.random(s if axis is None else (*s[:axis], 3, *s[axis:])))
        for s, axis in zip(shapes, in_axes, strict=True)
    ]

    def run(q, k, v, decay):  # type: ignore[no-untyped-def]
        return jax_op.linear_attention(q, k, v, decay=decay, return_state=True)

    def slices(i: int) -> list[jax.Array]:
        return [
            x if axis is None else jnp.take(x, i, axis)
            for x, axis in zip(arrays, in_axes, strict=True)
        ]

    loop = [run(*slices(i)) for i in range(3)]
    expected = jax.tree.map(lambda *x: jnp.stack(x), *loop)
    got = jax.jit(jax.vmap(run, in_axes=in_axes))(*arrays)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, got, expected))


def test_gradient_of_vmap_and_vmap_of_gradient() -> None:
    q, k, v = (jnp.stack([x, 2 * x, -x]) for x in _arrays())
    decay = jnp.stack([_decay(), 0.5 * _decay(), 0.9 * _decay()])

    def loss(q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(jax_op.linear_attention(q, k, v, decay=decay)))

    inputs = (q, k, v, decay)
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))
    each = [gradient(*x) for x in zip(*inputs, strict=True)]
    expected = jax.tree.map(lambda *x: jnp.stack(x), *each)
    inside = jax.vmap(gradient)(*inputs)
    total = jax.jit(jax.grad(lambda *a: jnp.sum(jax.vmap(loss)(*a)), argnums=(0, 1, 2, 3)))
    outside = total(*inputs)
    for want, first, second in zip(expected, inside, outside, strict=True):
        assert jnp.array_equal(first, want)
        assert jnp.array_equal(second, want)


def test_checkpoint_and_scan() -> None:
    q, k, v = _arrays((1, 6, 2, 8), (1, 6, 2, 8), (1, 6, 2, 8))

    def stack(q: jax.Array) -> jax.Array:
        layer = jax.checkpoint(lambda x: jax_op.linear_attention(x, k, v))
        return jax.lax.scan(lambda x, _: (layer(x), None), q, length=3)[0]

    def unrolled(q: jax.Array) -> jax.Array:
        for _ in range(3):
            q = jax_op.linear_attention(q, k, v)
        return q

    weights = jnp.arange(q.size, dtype=q.dtype).reshape(q.shape)
    got = jax.jit(jax.grad(lambda x: jnp.sum(weights * stack(x))))(q)
    assert jnp.allclose(got, jax.jit(jax.grad(lambda x: jnp.sum(weights * unrolled(x))))(q))


@pytest.mark.parametrize("check_vma", [False, True])
def test_shards_over_batch_and_heads(check_vma: bool) -> None:
    q, k, v = _arrays((4, 6, 4, 8), (4, 6, 2, 8), (4, 6, 2, 8))
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    split = P("data", None, "model", None)

    def loss(q, k, v, decay):  # type: ignore[no-untyped-def]
        out = jax_op.linear_attention(q, k, v, decay=decay)
        return jnp.sum(jnp.sin(out), keepdims=True)[:, 0, 0, 0]

    def sharded(q, k, v, decay):  # type: ignore[no-untyped-def]
        body = jax.shard_map(
            lambda *args: loss(*args)[:, None],
            mesh=mesh,
            in_specs=(split, split, split, P("model")),
            out_specs=P("data", "model"),
            check_vma=check_vma,
        )
        return jnp.sum(body(q, k, v, decay))

    arguments = (q, k, v, _decay())
    step = jax.jit(jax.value_and_grad(sharded, argnums=(0, 1, 2, 3)))
    placed = [
        jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))
        for x, spec in zip(arguments, (split, split, split, P("model")), strict=True)
    ]
    whole = jax.value_and_grad(lambda *a: jnp.sum(loss(*a)), argnums=(0, 1, 2, 3))
    expected = jax.jit(whole)(*arguments)
    assert jax.tree.all(jax.tree.map(jnp.allclose, step(*placed), expected))
    text = step.lower(*placed).compile().as_text()
    assert "all-gather" not in text, "the inputs are gathered"


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_lowers_to_the_native_calls(platform: str) -> None:
    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(jax_op.linear_attention(q, k, v))

    traced = jax.jit(jax.grad(loss)).trace(*_arrays(dtype=jnp.float32))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert "@hpc_linear_attention_forward" in text
    assert "@hpc_linear_attention_backward" in text


@pytest.mark.parametrize("has_state", [False, True])
def test_reference_backend_on_request(has_state: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(q, k, v, decay, state):  # type: ignore[no-untyped-def]
        initial = state if has_state else None
        out, after = jax_op.linear_attention(
            q, k, v, decay=decay, initial_state=initial, return_state=True
        )
        return jnp.sum(jnp.sin(out)) + (jnp.sum(jnp.sin(after.kv)) if has_state else 0.0)

    arrays = (*_arrays(), _decay(), _state())
    gradient = jax.value_and_grad(loss, argnums=(0, 1, 2, 3, 4))
    expected = gradient(*arrays)
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "reference")
    assert jax.tree.all(jax.tree.map(jnp.allclose, gradient(*arrays), expected))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((5, 4, 8), K_SHAPE, V_SHAPE), r"q must be \[batch, seq_len, num_heads, head_dim\]"),
        ((Q_SHAPE, (3, 5, 2, 6), V_SHAPE), r"agree with q in batch \(2\)"),
        ((Q_SHAPE, (2, 5, 3, 6), (2, 5, 3, 3)), "multiple of num_kv_heads, got 4 and 3"),
    ],
)
def test_bad_shapes_are_named(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jax.jit(jax_op.linear_attention)(*_arrays(*shapes))


def test_bad_dtypes_are_named() -> None:
    q, k, v = _arrays()
    with pytest.raises(TypeError, match="one dtype, got float64, float32 and float64"):
        jax_op.linear_attention(q, k.astype(jnp.float32), v)
    with pytest.raises(UnsupportedKernelError, match="does not support int32 on cpu"):
        jax_op.linear_attention(*(x.astype(jnp.int32) for x in (q, k, v)))


def test_triton_is_not_replaced_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "triton")
    with pytest.raises(UnsupportedKernelError, match="on cpu with HPC_KERNEL_BACKEND=triton"):
        jax_op.linear_attention(*_arrays())
    monkeypatch.setitem(contract.SUPPORT["triton"], "cpu", frozenset({"float64"}))
    with pytest.raises(UnsupportedKernelError, match="serves JAX on cuda only"):
        jax_op.linear_attention(*_arrays())


def test_numbers_must_be_known_when_traced() -> None:
    with pytest.raises(TypeError, match="eps must be a Python number"):
        jax.jit(lambda q, e: jax_op.linear_attention(q, q, q, eps=e))(_arrays()[0], 0.5)
