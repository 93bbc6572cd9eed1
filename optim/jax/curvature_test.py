"""The estimates are right on average, where the Hessian's diagonal is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optim.jax.curvature import gauss_newton_bartlett, hutchinson, sample_labels


def test_gauss_newton_bartlett_of_softmax_regression() -> None:
    keys = jax.random.split(jax.random.key(0), 2)
    inputs = jax.random.normal(keys[0], (16, 3))
    weight = jax.random.normal(keys[1], (3, 4))
    p = jax.nn.softmax(inputs @ weight)
    exact = (inputs**2).T @ (p * (1 - p)) / len(inputs)

    def estimate(key: jax.Array) -> jax.Array:
        labels = sample_labels(inputs @ weight, jax.random.gumbel(key, p.shape))

        def loss(weight: jax.Array) -> jax.Array:
            logits = inputs @ weight
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        return gauss_newton_bartlett(jax.grad(loss)(weight), len(inputs))

    estimates = jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(1), 4000))
    np.testing.assert_allclose(estimates.mean(0), exact, rtol=0.1)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float16", "float32"), ("bfloat16", "float32"), ("float32", "float32"), ("float64",) * 2],
)
@pytest.mark.parametrize("size", [2.0**-14, 2.0**10])
def test_gauss_newton_bartlett_of_narrow_gradients(dtype: str, expected: str, size: float) -> None:
    """Neither vanishes nor overflows."""
    with jax.enable_x64(True):
        estimate = gauss_newton_bartlett({"w": jnp.full(3, -size, dtype)}, 64)["w"]
        assert estimate.dtype == expected
        np.testing.assert_array_equal(estimate, 64 * size**2)


def test_hutchinson_of_a_quadratic() -> None:
    half = jax.random.normal(jax.random.key(0), (6, 6))
    hessian = half @ half.T + 4 * jnp.eye(6)
    params = {"w": jnp.ones(6), "unused": jnp.ones(2)}

    def estimate(key: jax.Array) -> dict[str, jax.Array]:
        return hutchinson(
            lambda p: 0.5 * p["w"] @ hessian @ p["w"] + p["unused"].sum(), params, key
        )

    estimates = jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(1), 4000))
    np.testing.assert_allclose(estimates["w"].mean(0), jnp.diag(hessian), rtol=0.1)
    assert not estimates["unused"].any()
