"""Derivatives of attention in JAX, of every order and in every direction.

The oracles are finite differences of the kernels, and JAX's own derivatives of the formula.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from kernels.attention.jax_op import attention
from kernels.attention.rope import Rope, RopeTables, rope_tables

jax.config.update("jax_enable_x64", True)
# Most of the time goes to compilation; what is compiled runs once or twice.
jax.config.update("jax_disable_most_optimizations", True)

Function = Callable[[jax.Array], jax.Array]

# Every kind of option, for [2, 3] queries and [2, 4] keys, with and without the others.
OPTIONS: dict[str, dict[str, Any]] = {
    "causal": {"causal": True, "softmax_scale": 0.7, "rope": Rope(100.0, 2, 2)},
    "window": {"window": (1, 0), "softcap": 0.8},
    "all": {
        "rope": RopeTables(*map(jnp.asarray, rope_tables(5, 4)), interleaved=True),
        "window": (2, 1),
        "softcap": 0.8,
        "segment_ids": (jnp.array([[0, 1, -1]] * 2), jnp.array([[0, 0, 1, -1]] * 2)),
        "dropout_rate": 0.4,
        "dropout_seed": jnp.array([5, -7]),
    },
}


def _arrays(*shapes: tuple[int, ...]) -> list[jax.Array]:
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_order_and_direction(options: dict[str, Any]) -> None:
    """Forward and reverse mode, and each over each."""

    @jax.jit
    def with_lse(q, k, v, slopes):  # type: ignore[no-untyped-def]
        out, lse = attention(q, k, v, alibi_slopes=slopes, return_lse=True, **options)
        return out, jnp.where(jnp.isinf(lse), 0.0, lse)

    inputs = _arrays((2, 3, 2, 4), (2, 4, 1, 4), (2, 4, 1, 4), (2, 2))
    check_grads(with_lse, inputs, order=2, eps=1e-5, rtol=1e-5, atol=1e-5)


def _loss(function: Function) -> Function:
    return lambda x: (function(x) ** 3).sum()


def _scanned(function: Function) -> Function:
    """The loss of a network of two equal layers."""
    return _loss(lambda x: jax.lax.scan(lambda y, _: (function(y), None), x, length=2)[0])


# What JAX makes of a function of q, at q and in a direction.
TRANSFORMS: dict[str, Callable[[Function, jax.Array, jax.Array], Any]] = {
    "jvp": lambda f, q, t: jax.jvp(f, (q,), (t,)),
    "linearize": lambda f, q, t: jax.linearize(f, q)[1](t),
    "grad": lambda f, q, t: jax.grad(_loss(f))(q),
    "vjp": lambda f, q, t: jax.vjp(f, q)[1](t),
    "jacrev": lambda f, q, t: jax.jacrev(f)(q),
    "jacfwd": lambda f, q, t: jax.jacfwd(f)(q),
    "hessian": lambda f, q, t: jax.hessian(_loss(f))(q),
    "reverse over reverse": lambda f, q, t: jax.jacrev(jax.jacrev(_loss(f)))(q),
    "reverse over forward": lambda f, q, t: jax.jacrev(jax.jacfwd(_loss(f)))(q),
    "forward over forward": lambda f, q, t: jax.jacfwd(jax.jacfwd(_loss(f)))(q),
    "third": lambda f, q, t: jax.grad(
        lambda x: (jax.jvp(jax.grad(_loss(f)), (x,), (t,))[1] ** 2).sum()
    )(q),
    "vmap": lambda f, q, t: jax.vmap(f, in_axes=1, out_axes=2)(jnp.stack([q, t], axis=1)),
    "vmap of grad": lambda f, q, t: jax.vmap(jax.grad(_loss(f)))(jnp.stack([q, t])),
    "grad of vmap": lambda f, q, t: jax.grad(_loss(jax.vmap(f)))(jnp.stack([q, t])),
    "vmap of jvp": lambda f, q, t: jax.vmap(lambda x: jax.jvp(f, (q,), (x,))[1])(jnp.stack([q, t])),
    "vmap of hessian": lambda f, q, t: jax.vmap(jax.hessian(_loss(f)))(jnp.stack([q, t])),
    "checkpoint": lambda f, q, t: jax.hessian(jax.checkpoint(_loss(f)))(q),
    "scan": lambda f, q, t: jax.grad(_scanned(f))(q),
    "scan, forward over reverse": lambda f, q, t: jax.jvp(jax.grad(_scanned(f)), (q,), (t,))[1],
    "scan, reverse over reverse": lambda f, q, t: jax.jacrev(jax.grad(_scanned(f)))(q),
    "scan of checkpoint": lambda f, q, t: jax.hessian(_scanned(jax.checkpoint(f)))(q),
    "vmap of scan": lambda f, q, t: jax.vmap(jax.hessian(_scanned(f)))(jnp.stack([q, t])),
    "while": lambda f, q, t: jax.jvp(
        lambda x: jax.lax.while_loop(lambda y: y.max() > 1.0, lambda y: 0.5 * f(y), x), (q,), (t,)
    ),
    "transpose of vjp": lambda f, q, t: jax.linear_transpose(jax.vjp(f, q)[1], q)((t,)),
    "linear_transpose": lambda f, q, t: jax.linear_transpose(
        lambda x: jax.jvp(f, (q,), (x,))[1], q
    )(t),
}


def _formula(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Causal attention as any textbook has it; JAX's own has scores in float32."""
    scores = jnp.einsum("bihd,bjd->bhij", q, k[:, :, 0]) * q.shape[-1] ** -0.5
    seen = jnp.tril(jnp.ones(scores.shape[2:], bool))
    weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bhij,bjd->bihd", weights, v[:, :, 0])


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_are_those_of_the_formula(transform: Callable[..., Any]) -> None:
    q, t, k, v = _arrays((1, 2, 2, 2), (1, 2, 2, 2), (1, 2, 1, 2), (1, 2, 1, 2))
    got, expected = (
        jax.tree.leaves(jax.jit(transform, static_argnums=0)(f, q, t))
        for f in (lambda x: attention(x, k, v, causal=True), lambda x: _formula(x, k, v))
    )
    for want, have in zip(expected, got, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-10, atol=1e-11)


MAPPED: dict[str, tuple[jax.Array, Callable[[jax.Array], dict[str, Any]]]] = {
    "slopes": (jnp.array([[0.5, 0.1], [0.2, -0.3]]), lambda x: {"alibi_slopes": x}),
    "segments": (
        jnp.array([[[0, 0, 1], [0, 1, 1]], [[0, 0, 0], [1, 1, -1]]]),
        lambda x: {"segment_ids": x},
    ),
    "seeds": (jnp.array([3, 4]), lambda x: {"dropout_rate": 0.5, "dropout_seed": x}),
    "keys": (
        jax.random.split(jax.random.key(0)),
        lambda x: {"dropout_rate": 0.5, "dropout_seed": x},
    ),
    "tables": (
        jnp.stack([jnp.asarray(rope_tables(3, 4, offset=n)[0]) for n in (0, 5)]),
        lambda x: {"rope": RopeTables(x, x)},
    ),
}


@pytest.mark.parametrize(("values", "option"), MAPPED.values(), ids=MAPPED)
def test_maps_over_what_is_not_q(values: jax.Array, option: Callable[..., Any]) -> None:
    q, k, v = _arrays((2, 3, 2, 4), (2, 3, 1, 4), (2, 3, 1, 4))

    @jax.jit
    def grad(x: jax.Array) -> jax.Array:
        return jax.grad(_loss(lambda y: attention(y, k, v, **option(x))))(q)

    expected = jnp.stack([grad(x) for x in values])
    np.testing.assert_allclose(jax.vmap(grad)(values), expected, rtol=1e-12)


def test_first_gradients_are_the_kernels() -> None:
    """Nothing but two native calls in what XLA compiles for a gradient."""
    q, k, v = _arrays((2, 3, 2, 4), (2, 3, 1, 4), (2, 3, 1, 4))
    loss = _loss(lambda x: attention(x, k, v, rope=Rope(), dropout_rate=0.1, dropout_seed=1))
    for gradient in (jax.grad(loss), jax.grad(jax.jit(loss))):
        text = jax.jit(gradient).lower(q).as_text()
        assert text.count("hpc_attention_forward") == 1
        assert text.count("hpc_attention_backward") == 1
        assert "exponential" not in text and "dot_general" not in text


def test_what_takes_no_part_may_be_infinite() -> None:
    q, k, v, t = _arrays(*[(1, 5, 2, 4)] * 4)
    ids = jnp.array([[0, 0, 0, 0, -1]])
    q, k, v = (x.at[:, 4].set(y) for x, y in ((q, jnp.inf), (k, jnp.nan), (v, jnp.inf)))
    _, tangent = jax.jit(
        lambda v, t: jax.jvp(lambda x: attention(q, k, x, segment_ids=ids), (v,), (t,))
    )(v, t)
    expected = attention(q[:, :4], k[:, :4], t[:, :4])
    np.testing.assert_allclose(tangent[:, :4], expected, rtol=1e-12)
    assert not tangent[:, 4].any()
    # Nor does the gradient of what is no result count, in derivatives of gradients.
    t = t.at[:, 4].set(jnp.inf)

    @jax.jit
    def change_of_gradient(q, k, v, t, **options):  # type: ignore[no-untyped-def]
        def gradient(k: jax.Array) -> jax.Array:
            return jax.vjp(lambda x: attention(q, x, v, **options), k)[1](t)[0]

        return jax.vjp(gradient, k)[1](jnp.ones_like(k))[0]

    change = change_of_gradient(q, k, v, t, segment_ids=ids)
    expected = change_of_gradient(*(x[:, :4] for x in (q, k, v, t)))
    np.testing.assert_allclose(change[:, :4], expected, rtol=1e-12, atol=1e-14)
    assert not change[:, 4].any()


@pytest.mark.parametrize("seq_lens", [(0, 3), (3, 0)])
def test_empty_problems(seq_lens: tuple[int, int]) -> None:
    q, k, v = (jnp.zeros((1, n, 1, 4)) for n in (*seq_lens, seq_lens[1]))
    hessian = jax.jit(jax.hessian(lambda x: attention(x, k, v).sum()))(q)
    assert hessian.shape == q.shape * 2 and not hessian.any()
