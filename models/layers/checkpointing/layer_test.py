"""A block that is computed again gives the same gradients, and leaves what it sows once."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from kernels.attention import torch_op
from kernels.attention.jax_op import attention as jax_attention
from models.context import Context
from models.layers.checkpointing import flax_layer, torch_layer
from models.layers.dropout import flax_layer as flax_dropout
from models.layers.dropout import torch_layer as torch_dropout

POLICIES = ["none", "full", "attention"]
_X = np.random.default_rng(0).normal(size=(2, 6, 1, 8)).astype(np.float32)
_SEEDS = np.array([3, 4], np.int32)


def _flax_block(x: jax.Array, context: Context) -> jax.Array:
    y = jnp.tanh(jax_attention(x, x, x))
    context.sow_loss("loss", y.mean())
    context.sow_metric("metric", y.max())
    context.sown.statistics["statistic"] = y.sum(axis=(0, 1))
    return flax_dropout.dropout(y, 0.5, context, "block")


def _torch_block(x: torch.Tensor, context: Context) -> torch.Tensor:
    y = torch.tanh(torch_op.attention(x, x, x))
    context.sow_loss("loss", y.mean())
    context.sow_metric("metric", y.max())
    context.sown.statistics["statistic"] = y.sum(dim=(0, 1))
    return torch_dropout.dropout(y, 0.5, context, "block")


def _of_flax(policy: str) -> tuple[jax.Array, Context]:
    context = Context(train=True, seeds=jnp.asarray(_SEEDS), checkpointing=policy)

    def loss(x: jax.Array) -> tuple[jax.Array, object]:
        ctx = dataclasses.replace(context, sown=context.sown.nothing())
        y = flax_layer.checkpointed(_flax_block, x, ctx)
        return (y**2).sum() + ctx.sown.loss, ctx.sown

    grad, sown = jax.grad(loss, has_aux=True)(jnp.asarray(_X))
    return grad, dataclasses.replace(context, sown=sown)


def _of_torch(policy: str) -> tuple[torch.Tensor, Context]:
    context = Context(train=True, seeds=torch.tensor(_SEEDS), checkpointing=policy)
    x = torch.tensor(_X, requires_grad=True)
    y = torch_layer.checkpointed(_torch_block, x, context)
    ((y**2).sum() + context.sown.loss).backward()
    assert x.grad is not None
    return x.grad, context


@pytest.mark.parametrize("policy", POLICIES)
def test_gradients_and_what_is_sown_do_not_change(policy: str) -> None:
    plain, _ = _of_torch("none")
    for grad, context in (_of_torch(policy), _of_flax(policy)):
        np.testing.assert_allclose(grad, plain, rtol=0, atol=1e-5)
        assert {name: len(found) for name, found in context.sown.losses.items()} == {"loss": 1}
        assert {name: len(found) for name, found in context.sown.metrics.items()} == {"metric": 1}
        assert list(context.sown.statistics) == ["statistic"]


@pytest.mark.parametrize(("policy", "calls"), [("none", 1), ("attention", 1), ("full", 2)])
def test_attention_is_computed_again_under_full_alone(
    monkeypatch: pytest.MonkeyPatch, policy: str, calls: int
) -> None:
    lowered = jax.jit(lambda: _of_flax(policy)[0]).lower().as_text()
    assert lowered.count("@hpc_attention_forward") == calls
    runs: list[str] = []
    run = torch_op.torch_calls._run

    def counting(name: str, *args: Any) -> None:
        runs.append(name)
        run(name, *args)

    monkeypatch.setattr(torch_op.torch_calls, "_run", counting)
    _of_torch(policy)
    assert runs.count("forward") == calls


def _stack(policy: str, depth: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Blocks of one weight, each of which keeps several values the size of its input."""

    def loss(weight: jax.Array, x: jax.Array) -> jax.Array:
        context = Context(train=True, checkpointing=policy)
        for _ in range(depth):
            x = flax_layer.checkpointed(lambda x, _: x + jnp.tanh(jnp.tanh(x @ weight)), x, context)
        return (x**2).sum()

    return loss


def test_jax_keeps_the_inputs_of_blocks_alone() -> None:
    """By XLA's plan of memory: a block that is computed again too early would be kept whole."""
    weight, x = jnp.ones((8, 8)), jnp.ones((64, 8))

    def kept(policy: str) -> float:
        plans = [
            jax.jit(jax.grad(_stack(policy, depth))).lower(weight, x).compile().memory_analysis()
            for depth in (4, 20)
        ]
        return (plans[1].temp_size_in_bytes - plans[0].temp_size_in_bytes) / 16 / x.nbytes

    assert kept("full") < 1.2
    assert kept("none") > 2


def test_jax_differentiates_twice_and_under_jit() -> None:
    """Forwards over backwards, as an estimate of curvature does."""
    rng = np.random.default_rng(0)
    weight, x = jnp.asarray(rng.normal(size=(8, 8))), jnp.asarray(rng.normal(size=(4, 8)))

    def curvature(policy: str) -> jax.Array:
        grad = jax.grad(jax.jit(_stack(policy, 2)))
        change: jax.Array = jax.jvp(lambda weight: grad(weight, x), (weight,), (weight,))[1]
        return change

    plain = curvature("none")
    np.testing.assert_allclose(curvature("full"), plain, rtol=0, atol=1e-5 * jnp.abs(plain).max())


@pytest.mark.parametrize("policy", POLICIES)
def test_a_block_may_be_linear(policy: str) -> None:
    context = Context(train=True, checkpointing=policy)
    grad = jax.grad(lambda x: flax_layer.checkpointed(lambda x, _: 2 * x, x, context).sum())
    np.testing.assert_array_equal(grad(jnp.ones(3)), 2 * np.ones(3))
