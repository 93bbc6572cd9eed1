"""A reversible stage is ordinary back-propagation's, in memory that does not grow with depth."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

from models.context import Context
from models.initializers import normal
from models.layers.dropout import flax_layer as flax_dropout
from models.layers.dropout import torch_layer as torch_dropout
from models.layers.linear.flax_layer import Linear as FlaxLinear
from models.layers.linear.torch_layer import Linear as TorchLinear
from models.layers.linear.weights import linear
from models.layers.reversible import flax_layer, torch_layer
from models.network import prefixed
from models.testing.parity import Arrays, assert_same, of_flax, of_torch, stirred

CHANNELS, DEPTH = 6, 5
X = np.random.default_rng(0).normal(size=(3, 4, CHANNELS))
CONTEXT = {"train": True, "seeds": np.array([3, 4, 5], np.int32), "keep_values": True}


class FlaxBranch(nnx.Module):
    """A linear layer, a nonlinearity and dropout, which sows all that can be sown."""

    def __init__(self, name: str):
        self.name, self.fc = name, FlaxLinear(CHANNELS // 2, CHANNELS // 2)

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        y = jnp.tanh(self.fc(x))
        context.sow_loss("loss", jnp.square(y).sum())
        context.sow_metric("metric", y.max())
        context.sow_value(self.name, y)
        context.sown.statistics[f"{self.name}.statistic"] = y.mean(axis=(0, 1))
        return flax_dropout.dropout(y, 0.3, context, self.name)


class TorchBranch(nn.Module):
    """The same; `seen` is what it was given, on the way there and on the way back."""

    def __init__(self, name: str):
        super().__init__()
        self.name, self.fc = name, TorchLinear(CHANNELS // 2, CHANNELS // 2)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        self.seen.append(x.detach())
        y = torch.tanh(self.fc(x))
        context.sow_loss("loss", y.square().sum())
        context.sow_metric("metric", y.max())
        context.sow_value(self.name, y)
        context.sown.statistics[f"{self.name}.statistic"] = y.detach().mean(dim=(0, 1))
        return torch_dropout.dropout(y, 0.3, context, self.name)


class FlaxStage(nnx.Module):
    def __init__(self, run: Callable[..., Any], depth: int = DEPTH):
        self.run = run
        self.branches = nnx.List([FlaxBranch(f"branches.{i}") for i in range(depth)])

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        y: jax.Array = self.run(self.branches, x, context)
        return y


class TorchStage(nn.Module):
    def __init__(self, run: Callable[..., Any], depth: int = DEPTH):
        super().__init__()
        self.run = run
        self.branches = nn.ModuleList([TorchBranch(f"branches.{i}") for i in range(depth)])

    def forward(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        y: torch.Tensor = self.run(self.branches, x, context)
        return y


def plain(branches: Sequence[Callable[..., Any]], x: Any, context: Context) -> Any:
    """The same mathematics by ordinary back-propagation, in either framework."""
    halves = [x[..., : CHANNELS // 2], x[..., CHANNELS // 2 :]]
    for index, branch in enumerate(branches):
        to, of = index % 2, 1 - index % 2
        halves[to] = halves[to] + branch(halves[of], context)
    concatenate = torch.cat if isinstance(x, torch.Tensor) else jnp.concatenate
    return concatenate(halves, -1)


def _weights(dtype: str, depth: int = DEPTH) -> Arrays:
    layer = linear(CHANNELS // 2, CHANNELS // 2, init=normal(0.5))
    weights = {}
    for index in range(depth):
        weights |= prefixed(f"branches.{index}.fc", layer)
    return stirred(weights, dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-13)])
def test_is_ordinary_back_propagation(dtype: str, tolerance: float) -> None:
    weights, x = _weights(dtype), X.astype(dtype)
    expected = of_torch(lambda: TorchStage(plain), weights, x, CONTEXT)
    for ours in (
        of_torch(lambda: TorchStage(torch_layer.reversible), weights, x, CONTEXT),
        of_flax(lambda: FlaxStage(flax_layer.reversible), weights, x, CONTEXT),
        of_flax(lambda: FlaxStage(plain), weights, x, CONTEXT),
    ):
        # Losses, metrics, statistics and values of each branch are there once, and the same.
        assert_same(ours, expected, values=tolerance, gradients=tolerance)
    assert len(expected.sown) == 2 + 2 * DEPTH


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
def test_the_way_back_finds_what_went_in(dtype: str, tolerance: float) -> None:
    stage = TorchStage(torch_layer.reversible, depth=24)
    tensors = {k: torch.tensor(v) for k, v in _weights(dtype, depth=24).items()}
    stage.load_state_dict(tensors, assign=True)
    seeds = torch.tensor(CONTEXT["seeds"])
    stage(torch.tensor(X.astype(dtype)), Context(train=True, seeds=seeds)).sum().backward()
    for branch in stage.branches:
        there, back = branch.seen
        torch.testing.assert_close(back, there, rtol=tolerance, atol=4 * tolerance)


def test_halves_stay_in_float32_where_branches_do_not() -> None:
    """Of 200 additions in bfloat16 nothing would be found again."""
    stage = TorchStage(torch_layer.reversible, depth=200)
    stage.load_state_dict({k: torch.tensor(v) for k, v in _weights("float32", 200).items()})
    x = torch.tensor(X).bfloat16()
    y = stage(x, Context(train=True, seeds=torch.tensor(CONTEXT["seeds"])))
    y.sum().backward()
    assert y.dtype == torch.bfloat16
    for branch in stage.branches:
        there, back = branch.seen
        assert there.dtype == torch.bfloat16
        torch.testing.assert_close(back, there, rtol=2**-8, atol=1e-4)


def test_torch_keeps_as_much_of_many_branches_as_of_few() -> None:
    def kept(run: Callable[..., Any], depth: int) -> int:
        stage, sizes = TorchStage(run, depth), []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            stage(torch.tensor(X), Context(train=True, seeds=torch.tensor(CONTEXT["seeds"])))
        return sum(sizes)

    assert kept(torch_layer.reversible, 4) == kept(torch_layer.reversible, 32)
    assert kept(plain, 32) > 7 * kept(plain, 4)


def test_jax_keeps_as_much_of_many_branches_as_of_few() -> None:
    """Temporary memory of the compiled gradient, without that of weights and their gradients."""
    x = jnp.ones((64, 64, CHANNELS))
    seeds = jnp.arange(64)

    def temporary(run: Callable[..., Any], depth: int) -> int:
        graph, params = nnx.split(FlaxStage(run, depth))

        def loss(params: Any) -> jax.Array:
            context = Context(train=True, seeds=seeds)
            return nnx.merge(graph, params)(x, context).sum() + context.sown.loss

        analysis = jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis()
        assert analysis is not None
        return int(analysis.temp_size_in_bytes)

    few, many = (temporary(flax_layer.reversible, depth) for depth in (4, 32))
    assert many < few + x.nbytes
    few, many = (temporary(plain, depth) for depth in (4, 32))
    assert many > few + 10 * x.nbytes


def test_torch_says_what_it_cannot_do() -> None:
    stage = TorchStage(torch_layer.reversible)
    x = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    y = stage(x, Context(train=True, seeds=torch.tensor(CONTEXT["seeds"])))
    with pytest.raises(RuntimeError, match=r"to backward\(\), not to torch.autograd.grad"):
        torch.autograd.grad(y.sum(), [x])


def test_what_is_differentiated_may_be_mapped_over_devices() -> None:
    """As the trainer does it: weights that vary from device to device, under `shard_map`."""
    graph, params = nnx.split(FlaxStage(flax_layer.reversible))
    mesh = jax.make_mesh((1,), ("device",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec

    def grads(params: Any, x: jax.Array, seeds: jax.Array) -> Any:
        def loss(params: Any) -> jax.Array:
            context = Context(train=True, seeds=seeds)
            return nnx.merge(graph, params)(x, context).sum() + context.sown.loss

        local = jax.lax.pcast(params, ("device",), to="varying")
        return jax.lax.pmean(jax.grad(loss)(local), ("device",))

    x, seeds = jnp.asarray(X, jnp.float32), jnp.asarray(CONTEXT["seeds"])
    mapped = jax.shard_map(
        grads, mesh=mesh, in_specs=(spec(), spec("device"), spec("device")), out_specs=spec()
    )
    found = jax.tree.leaves(jax.jit(mapped)(params, x, seeds))
    assert len(found) == 2 * DEPTH and all(bool(jnp.isfinite(g).all()) for g in found)
