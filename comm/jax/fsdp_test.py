"""Sharded parameters whose gradients are compressed in the backward pass."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from comm.compression import Compression
from comm.jax import fsdp
from comm.testing import simulation
from comm.testing.virtual_devices import make_mesh
from kernels.quantize.contract import codec

COMPRESSION = Compression(codec(block_size=64), min_size=100, bucket_bytes=4_096)
WORLD_SIZE = 4

SHARDED = P("data")

Tree = Any


def _params(dtype: str = "float32") -> Tree:
    rng = np.random.default_rng(0)
    shapes = {"bias": (7,), "head": (64, 10), "hidden": (31, 65)}
    return {name: jnp.asarray(rng.normal(size=shape) / 8, dtype) for name, shape in shapes.items()}


def _shapes(params: Tree) -> Tree:
    return jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)


def _mapped(function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    mesh = make_mesh(data=WORLD_SIZE)
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shares_are_gathered_to_the_whole(dtype: str) -> None:
    params = _params(dtype)
    shapes, shares = _shapes(params), fsdp.shard(params, WORLD_SIZE)
    residuals = fsdp.init_residuals(shapes, COMPRESSION, WORLD_SIZE)

    def run(shares: Tree, residuals: Tree) -> Tree:
        whole = fsdp.gather(shares, residuals, shapes, "data", COMPRESSION)
        return jax.tree.map(lambda x: x[None], whole)

    gathered = _mapped(run, (SHARDED, SHARDED), SHARDED)(shares, residuals)
    for name, param in params.items():
        assert shares[name].shape == (WORLD_SIZE, -(-param.size // WORLD_SIZE))
        assert gathered[name].dtype == dtype
        np.testing.assert_array_equal(fsdp.unshard(shares, shapes)[name], param)
        for whole in gathered[name]:
            np.testing.assert_array_equal(whole, param)
    assert residuals["bias"] is None


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("error_feedback", [True, False])
@pytest.mark.parametrize("average", [True, False])
def test_gradients_and_residuals_are_the_specification(
    average: bool, error_feedback: bool, rounding: str
) -> None:
    compression = Compression(
        codec(block_size=64, rounding=rounding), error_feedback, min_size=100, bucket_bytes=4_096
    )
    params = _params()
    shapes, shares = _shapes(params), fsdp.shard(params, WORLD_SIZE)
    residuals = fsdp.init_residuals(shapes, compression, WORLD_SIZE)

    def run(shares: Tree, residuals: Tree, weights: Tree, step: jax.Array) -> Any:
        def loss(shares: Tree, residuals: Tree) -> jax.Array:
            whole = fsdp.gather(
                shares, residuals, shapes, "data", compression, step=step, average=average
            )
            return sum(jnp.vdot(whole[name], weights[name][0]) for name in whole)

        return jax.grad(loss, argnums=(0, 1))(shares, residuals)

    mapped = _mapped(run, (SHARDED, SHARDED, SHARDED, P()), (SHARDED, SHARDED))
    local = {k: None if r is None else list(np.zeros(r.shape, "f4")) for k, r in residuals.items()}
    for step in range(3):
        rng = np.random.default_rng(step)
        weights = {
            k: rng.normal(size=(WORLD_SIZE, *p.shape)).astype("f4") for k, p in params.items()
        }
        grads, residuals = mapped(shares, residuals, weights, step)
        for name in ("head", "hidden"):
            flat = weights[name].reshape(WORLD_SIZE, -1)
            flat = np.pad(flat, ((0, 0), (0, shares[name].size - flat.shape[1])))
            expected = simulation.reduce_scatter(
                flat, compression, average=average, local=local[name], step=step
            )
            np.testing.assert_array_equal(grads[name].ravel(), expected)
            if error_feedback:
                np.testing.assert_array_equal(residuals[name], local[name])
        exact = weights["bias"].sum(0) / (WORLD_SIZE if average else 1)
        np.testing.assert_allclose(grads["bias"].ravel()[:7], exact, rtol=1e-5, atol=1e-6)


def test_training_reaches_the_loss_of_float32() -> None:
    num_steps = 200
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(256, 30)).astype("f4")
    targets = np.tanh(inputs @ rng.normal(size=(30, 10)).astype("f4"))
    params = {
        "bias": np.zeros(64, "f4"),
        "head": rng.normal(size=(64, 10)).astype("f4") / 8,
        "hidden": rng.normal(size=(30, 64)).astype("f4") / 6,
    }
    shapes, optimizer = _shapes(params), optax.adam(3e-3)

    def loss_fn(params: Tree, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean((jnp.tanh(x @ params["hidden"] + params["bias"]) @ params["head"] - y) ** 2)

    def final_loss(compression: Compression) -> float:
        shares = fsdp.shard(params, WORLD_SIZE)
        residuals = fsdp.init_residuals(shapes, compression, WORLD_SIZE)
        state = optimizer.init(shares)
        state_specs = jax.tree.map(lambda x: SHARDED if x.ndim else P(), state)

        def step(shares: Tree, residuals: Tree, state: Tree, x: jax.Array, y: jax.Array) -> Any:
            def loss(shares: Tree, residuals: Tree) -> jax.Array:
                return loss_fn(fsdp.gather(shares, residuals, shapes, "data", compression), x, y)

            grads, residuals = jax.grad(loss, argnums=(0, 1))(shares, residuals)
            updates, state = optimizer.update(grads, state, shares)
            return optax.apply_updates(shares, updates), residuals, state

        in_specs = (SHARDED, SHARDED, state_specs, SHARDED, SHARDED)
        run = _mapped(step, in_specs, (SHARDED, SHARDED, state_specs))
        for _ in range(num_steps):
            shares, residuals, state = run(shares, residuals, state, inputs, targets)
        return float(loss_fn(fsdp.unshard(shares, shapes), inputs, targets))

    exact = final_loss(Compression(min_size=10**9))
    assert exact < 0.2 * float(loss_fn(params, inputs, targets))  # there is something to learn
    assert final_loss(COMPRESSION) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("remat", [True, False])
def test_layers_in_a_scan_are_gathered_one_by_one(remat: bool) -> None:
    num_layers, width = 3, 20
    rng = np.random.default_rng(0)
    layers = rng.normal(size=(num_layers, width, width)).astype("f4") / 5
    inputs = rng.normal(size=(WORLD_SIZE * 4, width)).astype("f4")
    like = jax.ShapeDtypeStruct((width, width), jnp.float32)
    # The layer comes first and the device second.
    shares = np.stack([fsdp.shard(layer, WORLD_SIZE) for layer in layers])
    residuals = 1e-3 * rng.normal(size=(num_layers, WORLD_SIZE, width * width)).astype("f4")

    def run(shares: jax.Array, residuals: jax.Array, x: jax.Array, scanned: bool) -> Any:
        def layer(x: jax.Array, held: Any) -> tuple[jax.Array, None]:
            weight = fsdp.gather(*held, like, "data", COMPRESSION)
            return jnp.tanh(x @ weight), None

        def loss(shares: jax.Array, residuals: jax.Array) -> jax.Array:
            step = jax.checkpoint(layer) if remat else layer
            if scanned:
                out, _ = jax.lax.scan(step, x, (shares, residuals))
            else:
                out = x
                for held in zip(shares, residuals, strict=True):
                    out, _ = step(out, held)
            return jnp.sum(out**2)

        return jax.grad(loss, argnums=(0, 1))(shares, residuals)

    by_device = P(None, "data")
    in_specs = (by_device, by_device, SHARDED)
    results = [
        _mapped(
            lambda *args, scanned=scanned: run(*args, scanned),
            in_specs,
            (by_device, by_device),
        )(shares, residuals, inputs)
        for scanned in (True, False)
    ]
    for of_scan, of_loop in zip(*results, strict=True):
        # Not to the bit: XLA may order the sums of a product otherwise, and one code may change.
        np.testing.assert_allclose(of_scan, of_loop, rtol=0, atol=2e-2 * np.abs(of_loop).max())
    assert np.any(results[0][1] != residuals)


@pytest.mark.parametrize("new_world_size", [1, 3, 8])
def test_what_is_pending_survives_another_number_of_devices(new_world_size: int) -> None:
    shapes = _shapes(_params())
    rng = np.random.default_rng(0)
    residuals = fsdp.init_residuals(shapes, COMPRESSION, WORLD_SIZE)
    sizes = {name: shape.size for name, shape in shapes.items()}
    for name in ("head", "hidden"):
        drawn = rng.normal(size=residuals[name].shape).astype("f4")
        residuals[name] = np.where(np.arange(drawn.shape[1]) < sizes[name], drawn, 0)
    resized = fsdp.resize_residuals(residuals, shapes, new_world_size)
    fresh = fsdp.init_residuals(shapes, COMPRESSION, new_world_size)
    assert jax.tree.map(np.shape, resized) == jax.tree.map(np.shape, fresh)
    for name in ("head", "hidden"):
        for row in resized[name]:
            expected = residuals[name].mean(0)[: sizes[name]]
            np.testing.assert_allclose(row[: sizes[name]], expected, rtol=1e-5, atol=1e-7)
            assert not np.any(row[sizes[name] :])
