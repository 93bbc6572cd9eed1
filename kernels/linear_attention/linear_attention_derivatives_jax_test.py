"""Derivatives of linear attention in JAX, of every order and in every direction.

The oracle is finite differences of the kernels.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from kernels.linear_attention.contract import State
from kernels.linear_attention.jax_op import linear_attention, linear_attention_step

jax.config.update("jax_enable_x64", True)
# Most of the time goes to compilation; what is compiled runs once or twice.
jax.config.update("jax_disable_most_optimizations", True)


def _inputs() -> list[jax.Array]:
    """q, k, v, decay, and an initial state: 4 tokens, 2 heads over 1."""
    rng = np.random.default_rng(0)
    shapes = (2, 4, 2, 3), (2, 4, 1, 3), (2, 4, 1, 2), (2, 2, 3, 2), (2, 2, 3)
    q, k, v, kv, k_sum = (jnp.asarray(rng.standard_normal(s)) for s in shapes)
    return [q, k, v, jnp.array([0.5, 0.9]), kv, abs(k_sum)]


OPTIONS: dict[str, dict[str, Any]] = {
    "elu": {},
    "relu": {"feature_map": "relu", "normalize": False},
    "identity": {"feature_map": "identity", "normalize": False, "scale": 0.7},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_order_and_direction(options: dict[str, Any]) -> None:
    @jax.jit
    def causal(q, k, v, decay, *state):  # type: ignore[no-untyped-def]
        out, after = linear_attention(
            q, k, v, decay=decay, initial_state=State(*state), return_state=True, **options
        )
        return out, *after

    check_grads(causal, _inputs(), order=2, eps=1e-5, rtol=1e-5, atol=1e-5)


def test_without_a_mask() -> None:
    @jax.jit
    def everywhere(q, k, v):  # type: ignore[no-untyped-def]
        return linear_attention(q, k, v, causal=False)

    check_grads(everywhere, _inputs()[:3], order=2, eps=1e-5, rtol=1e-5, atol=1e-5)


def test_steps() -> None:
    @jax.jit
    def step(q, k, v, decay, *state):  # type: ignore[no-untyped-def]
        out, after = linear_attention_step(State(*state), q[:, 0], k[:, 0], v[:, 0], decay=decay)
        return out, *after

    check_grads(step, _inputs(), order=2, eps=1e-5, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_forward_mode_at_zero_is_the_kernels_gradient(options: dict[str, Any]) -> None:
    """Where feature maps have their corners; masks and padding make such tokens."""
    q, k, v, *_ = _inputs()
    q, k = q.at[:, 1].set(0.0), k.at[:, 2].set(0.0)

    def run(q: jax.Array, k: jax.Array) -> jax.Array:
        out = linear_attention(q, k, v, **options)
        assert isinstance(out, jax.Array)
        return out

    forwards, backwards = (f(run, argnums=(0, 1))(q, k) for f in (jax.jacfwd, jax.jacrev))
    for have, want in zip(forwards, backwards, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-12)


def test_first_gradients_are_the_kernels() -> None:
    """Nothing but native calls in what XLA compiles for gradients, mapped ones too."""
    q, k, v, decay, *_ = _inputs()

    def loss(q: jax.Array, decay: jax.Array) -> jax.Array:
        out = linear_attention(q, k, v, decay=decay)
        assert isinstance(out, jax.Array)
        return (out**2).sum()

    gradients = jax.grad(loss, argnums=(0, 1))
    qs, decays = jnp.stack([q, 2 * q, -q]), jnp.stack([decay, decay**2, decay**3])
    mapped = jax.jit(jax.vmap(gradients))
    text = mapped.lower(qs, decays).as_text()
    assert text.count("hpc_linear_attention_forward") == 1
    assert text.count("hpc_linear_attention_backward") == 1
    assert "dot_general" not in text
    expected = [gradients(q, decay) for q, decay in zip(qs, decays, strict=True)]
    for have, want in zip(mapped(qs, decays), zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(have, jnp.stack(want), rtol=1e-12)
