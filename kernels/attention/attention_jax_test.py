"""Attention as a JAX operation: jit, grad, vmap, lowering and errors."""

import jax
import jax.numpy as jnp
import pytest
from jax.test_util import check_grads

from kernels.attention import contract, jax_op
from kernels.dispatch import UnsupportedKernelError

jax.config.update("jax_enable_x64", True)

# Finite differences of float64 with JAX's step.
GRADIENT_TOLERANCE = 1e-6


def _arrays(
    q_shape: tuple[int, ...] = (2, 5, 4, 8),
    kv_shape: tuple[int, ...] = (2, 7, 2, 8),
    dtype: type = jnp.float64,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (q_shape, kv_shape, kv_shape)
    return tuple(jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes, strict=True))


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_match_finite_differences(causal: bool) -> None:
    check_grads(
        lambda *args: jax_op.attention(*args, causal=causal, softmax_scale=0.7),
        _arrays(),
        order=1,
        modes=["rev"],
        atol=GRADIENT_TOLERANCE,
        rtol=GRADIENT_TOLERANCE,
    )


@pytest.mark.parametrize("causal", [False, True])
def test_agrees_with_jax(causal: bool) -> None:
    q, k, v = _arrays((2, 70, 4, 32), (2, 70, 2, 32), jnp.float32)
    expected = jax.nn.dot_product_attention(q, k, v, is_causal=causal)
    got = jax_op.attention(q, k, v, causal=causal)
    assert jnp.allclose(got, expected, atol=1e-5)  # Two float32 sums over 70 keys.


def test_jit_is_the_same_function() -> None:
    arrays = _arrays()
    eager = jax_op.attention(*arrays, causal=True)
    assert jnp.array_equal(jax.jit(lambda *a: jax_op.attention(*a, causal=True))(*arrays), eager)


@pytest.mark.parametrize("in_axes", [(0, 0, 0), (0, None, None), (None, 0, 0), (2, 1, 3)])
def test_vmap_is_a_loop(in_axes: tuple[int | None, ...]) -> None:
    shapes = ((2, 5, 4, 8), (2, 7, 2, 8), (2, 7, 2, 8))
    arrays = [
        jax.random.normal(jax.random.key(i), s if axis is None else (*s[:axis], 3, *s[axis:]))
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

    gradient = jax.grad(loss, argnums=(0, 1, 2))
    expected = [
        jnp.stack(x) for x in zip(*(gradient(*x) for x in zip(q, k, v, strict=True)), strict=True)
    ]
    inside = jax.vmap(gradient)(q, k, v)
    outside = jax.grad(lambda *a: jnp.sum(jax.vmap(loss)(*a)), argnums=(0, 1, 2))(q, k, v)
    for want, first, second in zip(expected, inside, outside, strict=True):
        assert jnp.array_equal(first, want) and jnp.array_equal(second, want)


def test_nested_vmap() -> None:
    q, k, v = (jnp.broadcast_to(x, (2, 3, *x.shape)) for x in _arrays())
    got = jax.vmap(jax.vmap(jax_op.attention))(q, k, v)
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
    got = jax.grad(lambda x: jnp.sum(weights * stack(x)))(q)
    assert jnp.allclose(got, jax.grad(lambda x: jnp.sum(weights * unrolled(x)))(q))


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
    with pytest.raises(UnsupportedKernelError, match="cpu on cpu: bfloat16, float32, float64"):
        jax_op.attention(*(x.astype(jnp.float16) for x in (q, k, v)))


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
