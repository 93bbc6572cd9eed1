"""Attention as a JAX operation: jit, vmap, sharding, lowering and errors.

attention_derivatives_jax_test.py has its derivatives.
"""

import os
from typing import Any

# Before JAX starts its CPU backend: four devices to shard over.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from kernels.attention import contract, jax_op
from kernels.attention.rope import Rope, RopeTables, rope_tables
from kernels.dispatch import ENVIRONMENT_VARIABLE, UnsupportedKernelError

jax.config.update("jax_enable_x64", True)


def _arrays(
    q_shape: tuple[int, ...] = (2, 5, 4, 8),
    kv_shape: tuple[int, ...] = (2, 7, 2, 8),
    dtype: type = jnp.float64,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return tuple(_draw(i, shape, dtype) for i, shape in enumerate((q_shape, kv_shape, kv_shape)))


def _draw(seed: int, shape: tuple[int, ...], dtype: type = jnp.float64) -> jax.Array:
    """By numpy: XLA compiles a normal distribution for seconds, again for each shape."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


# For (2, 5) queries and (2, 7) keys.
ALL_OPTIONS = {
    "softmax_scale": 0.7,
    "causal": True,
    "rope": RopeTables(*map(jnp.asarray, rope_tables(9, 4))),
    "window": (3, 1),
    "segment_ids": (jnp.array([[0, 0, 0, 1, -1]] * 2), jnp.array([[0] * 4 + [1] * 3] * 2)),
    "softcap": 0.8,
    "dropout_rate": 0.4,
}
SLOPES = jnp.array([0.5, 0.1, -0.2, 0.0])


def test_slopes_are_differentiated_only_when_asked() -> None:
    def loss(q: jax.Array, slopes: jax.Array) -> jax.Array:
        return jnp.sum(jax_op.attention(q, q, q, alibi_slopes=slopes))

    q = _arrays()[0]
    for argnums, rows in ((0, "tensor<0xf64>"), (1, "tensor<2x4x5xf64>")):
        text = jax.jit(jax.grad(loss, argnums)).lower(q, SLOPES).as_text()
        call = next(line for line in text.splitlines() if "@hpc_attention_backward" in line)
        # The results: grad_q, grad_k, grad_v, grad_slopes, delta and no workspace.
        assert f"{rows}, tensor<2x4x5xf64>, tensor<0xf64>, tensor<0xf64>)" in call.split("->")[1]


@pytest.mark.parametrize("check_vma", [False, True])
def test_shards_over_batch_and_heads(check_vma: bool) -> None:
    q, k, v = _arrays((4, 6, 4, 8), (4, 6, 2, 8))
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    split = P("data", None, "model", None)

    def loss(q, k, v, slopes):  # type: ignore[no-untyped-def]
        out = jax_op.attention(q, k, v, alibi_slopes=slopes, causal=True, rope=Rope())
        return jnp.sum(jnp.sin(out), keepdims=True)[:, 0, 0, 0]

    def sharded(q, k, v, slopes):  # type: ignore[no-untyped-def]
        body = jax.shard_map(
            lambda *args: loss(*args)[:, None],
            mesh=mesh,
            in_specs=(split, split, split, P("model")),
            out_specs=P("data", "model"),
            check_vma=check_vma,
        )
        return jnp.sum(body(q, k, v, slopes))

    arguments = (q, k, v, SLOPES)
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


def test_gradients_of_the_reference_vary_over_a_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = _arrays()

    def grads(*arguments: jax.Array) -> tuple[jax.Array, ...]:
        return jax.grad(lambda *a: jnp.sum(jnp.sin(jax_op.attention(*a))), (0, 1, 2))(*arguments)

    expected = grads(*arguments)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "reference")
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    body = jax.shard_map(grads, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
    assert jax.tree.all(jax.tree.map(jnp.allclose, jax.jit(body)(*arguments), expected))


def test_seed_may_be_traced() -> None:
    q, k, v = _arrays((2, 40, 4, 8), (2, 40, 4, 8))

    @jax.jit
    def run(seed: jax.Array) -> jax.Array:
        return jax_op.attention(q, k, v, dropout_rate=0.5, dropout_seed=seed)

    eager = jax_op.attention(q, k, v, dropout_rate=0.5, dropout_seed=3)
    assert jnp.array_equal(run(jnp.uint32(3)), eager)
    assert jnp.array_equal(run(jnp.uint32(3)), run(jnp.uint32(3)))
    assert not jnp.array_equal(run(jnp.uint32(3)), run(jnp.uint32(4)))
    assert run(jax.random.bits(jax.random.key(0), dtype="uint32")).shape == q.shape


def test_vmap_of_all_options_is_a_loop() -> None:
    arrays = [jnp.stack([x, 2 * x, -x]) for x in (*_arrays(), SLOPES)]
    seeds = jnp.array([[1, 2], [3, 4], [5, 6]])

    @jax.jit
    def run(q, k, v, slopes, seed):  # type: ignore[no-untyped-def]
        options = {**ALL_OPTIONS, "alibi_slopes": slopes, "dropout_seed": seed}
        return jax_op.attention(q, k, v, return_lse=True, **options)

    got = jax.vmap(run)(*arrays, seeds)
    expected = [run(*x) for x in zip(*arrays, seeds, strict=True)]
    for index, want in enumerate(expected):
        assert jnp.array_equal(got[0][index], want[0])
        assert jnp.array_equal(got[1][index], want[1])


@pytest.mark.parametrize("causal", [False, True])
def test_agrees_with_jax(causal: bool) -> None:
    q, k, v = _arrays((2, 70, 4, 32), (2, 70, 2, 32), jnp.float32)
    expected = jax.nn.dot_product_attention(q, k, v, is_causal=causal)
    got = jax_op.attention(q, k, v, causal=causal)
    assert jnp.allclose(got, expected, atol=1e-5)  # Two float32 sums over 70 keys.


@pytest.mark.parametrize("odd_one", [np.inf, np.nan])
def test_padding_is_as_none(odd_one: float) -> None:
    arrays = _arrays((2, 5, 4, 8), (2, 5, 2, 8))
    *padded, padded_grad = (
        jnp.pad(x, [(0, 0), (0, 3), (0, 0), (0, 0)], constant_values=odd_one)
        for x in (*arrays, arrays[0])
    )
    ids = jnp.array([[7] * 5 + [-1] * 3] * 2)

    def run(q, k, v, grad, **options):  # type: ignore[no-untyped-def]
        options |= {"causal": True, "rope": Rope(), "alibi_slopes": SLOPES}
        out, vjp = jax.vjp(lambda *a: jax_op.attention(*a, **options), q, k, v)
        return out, *vjp(grad)

    got = run(*padded, padded_grad, segment_ids=ids)
    for have, want in zip(got, run(*arrays, arrays[0]), strict=True):
        assert jnp.allclose(have[:, :5], want)
        assert not have[:, 5:].any()


def test_jit_is_the_same_function() -> None:
    arrays = _arrays()
    eager = jax_op.attention(*arrays, causal=True)
    assert jnp.array_equal(jax.jit(lambda *a: jax_op.attention(*a, causal=True))(*arrays), eager)


@pytest.mark.parametrize("in_axes", [(0, 0, 0), (0, None, None), (None, 0, 0), (2, 1, 3)])
def test_vmap_is_a_loop(in_axes: tuple[int | None, ...]) -> None:
    shapes = ((2, 5, 4, 8), (2, 7, 2, 8), (2, 7, 2, 8))
    arrays = [
        _draw(i, s if axis is None else (*s[:axis], 3, *s[axis:]))
        for i, (s, axis) in enumerate(zip(shapes, in_axes, strict=True))
    ]
    slices = [
        [
            x if axis is None else jnp.take(x, i, axis)
            for x, axis in zip(arrays, in_axes, strict=True)
        ]
        for i in range(3)
    ]
    expected = jnp.stack([jax_op.attention(*x) for x in slices])
    got = jax.jit(jax.vmap(jax_op.attention, in_axes=in_axes))(*arrays)
    assert jnp.array_equal(got, expected)


def test_gradient_of_vmap_and_vmap_of_gradient() -> None:
    q, k, v = (jnp.stack([x, 2 * x, -x]) for x in _arrays())

    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(jax_op.attention(q, k, v, causal=True)))

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    expected = [
        jnp.stack(x) for x in zip(*(gradient(*x) for x in zip(q, k, v, strict=True)), strict=True)
    ]
    inside = jax.vmap(gradient)(q, k, v)
    total = jax.jit(jax.grad(lambda *a: jnp.sum(jax.vmap(loss)(*a)), argnums=(0, 1, 2)))
    outside = total(q, k, v)
    for want, first, second in zip(expected, inside, outside, strict=True):
        assert jnp.array_equal(first, want) and jnp.array_equal(second, want)


def test_nested_vmap() -> None:
    q, k, v = (jnp.broadcast_to(x, (2, 3, *x.shape)) for x in _arrays())
    got = jax.jit(jax.vmap(jax.vmap(jax_op.attention)))(q, k, v)
    assert jnp.array_equal(got, jnp.broadcast_to(jax_op.attention(*_arrays()), got.shape))


def test_checkpoint_and_scan() -> None:
    q, k, v = _arrays((1, 6, 2, 8), (1, 6, 2, 8))

    def stack(q: jax.Array) -> jax.Array:
        layer = jax.checkpoint(lambda x: jax_op.attention(x, k, v, causal=True))
        return jax.lax.scan(lambda x, _: (layer(x), None), q, length=3)[0]

    def unrolled(q: jax.Array) -> jax.Array:
        for _ in range(3):
            q = jax_op.attention(q, k, v, causal=True)
        return q

    weights = jnp.arange(q.size, dtype=q.dtype).reshape(q.shape)
    got = jax.jit(jax.grad(lambda x: jnp.sum(weights * stack(x))))(q)
    assert jnp.allclose(got, jax.jit(jax.grad(lambda x: jnp.sum(weights * unrolled(x))))(q))


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_lowers_to_the_native_calls(platform: str) -> None:
    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(jax_op.attention(q, k, v))

    traced = jax.jit(jax.grad(loss)).trace(*_arrays(dtype=jnp.float32))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert "@hpc_attention_forward" in text and "@hpc_attention_backward" in text


def test_reference_backend_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(jax_op.attention(q, k, v, causal=True)))

    arrays = _arrays()
    gradient = jax.value_and_grad(loss, argnums=(0, 1, 2))
    expected = gradient(*arrays)
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "reference")
    assert jax.tree.all(jax.tree.map(jnp.allclose, gradient(*arrays), expected))


@pytest.mark.parametrize(
    ("q_shape", "kv_shape", "message"),
    [
        ((5, 4, 8), (2, 7, 4, 8), r"q must be \[batch, seq_len, num_heads, head_dim\]"),
        ((2, 5, 4, 8), (3, 7, 4, 8), r"agree with q in batch \(2\)"),
        ((2, 5, 4, 8), (2, 7, 3, 8), "multiple of num_kv_heads, got 4 and 3"),
    ],
)
def test_bad_shapes_are_named(
    q_shape: tuple[int, ...], kv_shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        jax.jit(jax_op.attention)(*_arrays(q_shape, kv_shape))


def test_bad_dtypes_are_named() -> None:
    q, k, v = _arrays()
    with pytest.raises(TypeError, match="one dtype, got float64, float32 and float64"):
        jax_op.attention(q, k.astype(jnp.float32), v)
    with pytest.raises(UnsupportedKernelError, match="cpu on cpu: bfloat16, float16, float32"):
        jax_op.attention(*(x.astype(jnp.complex64) for x in (q, k, v)))


def test_triton_is_not_replaced_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "triton")
    with pytest.raises(UnsupportedKernelError, match="on cpu with HPC_KERNEL_BACKEND=triton"):
        jax_op.attention(*_arrays())
    monkeypatch.setitem(contract.SUPPORT["triton"], "cpu", frozenset({"float64"}))
    with pytest.raises(UnsupportedKernelError, match="serves JAX on cuda only"):
        jax_op.attention(*_arrays())


def test_scale_must_be_known_when_traced() -> None:
    with pytest.raises(TypeError, match="softmax_scale must be a Python number"):
        jax.jit(lambda q, s: jax_op.attention(q, q, q, softmax_scale=s))(_arrays()[0], 0.5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alibi_slopes": jnp.ones(2)}, ValueError, r"alibi_slopes must be \[num_heads\], \(4,\)"),
        ({"segment_ids": jnp.zeros((2, 5))}, ValueError, "must be a pair .* here 5 and 7"),
        (
            {"segment_ids": (jnp.zeros((2, 5)), jnp.zeros((2, 7)))},
            TypeError,
            "segment_ids must be integers, got float64",
        ),
        ({"dropout_rate": 0.1}, ValueError, "dropout_rate > 0 needs a dropout_seed"),
        (
            {"dropout_rate": 0.1, "dropout_seed": jnp.zeros(3, jnp.uint32)},
            ValueError,
            r"dropout_seed must be an integer or \[batch\], \(2,\), got shape \(3,\)",
        ),
        ({"rope": RopeTables(jnp.ones((6, 4)), jnp.ones((6, 4)))}, ValueError, "each of 7 pos"),
    ],
)
def test_bad_options_are_named(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        jax_op.attention(*_arrays(), **options)
