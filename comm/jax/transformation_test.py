"""`compress_gradients` in optax chains: what it computes, carries, refuses and sends."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from comm.compression import Compression, pieces
from comm.jax.transformation import (
    CompressionState,
    bytes_per_step,
    compress_gradients,
    partition_specs,
    resize_state,
)
from comm.testing import simulation
from comm.testing.virtual_devices import bytes_sent, make_mesh
from kernels.quantize.contract import codec

COMPRESSION = Compression(codec(block_size=64), min_size=100, bucket_bytes=4_096)

# In the order of the tree; only matrices of 100 values or more are compressed.
SHAPES = {"bias": (300,), "conv": (3, 3, 4, 8), "head": (30, 70), "tiny": (3, 3)}
COMPRESSED = ("conv", "head")

Tree = Any


def _params(dtype: str = "float32") -> Tree:
    return {name: jnp.zeros(shape, dtype) for name, shape in SHAPES.items()}


def _gradients(world_size: int, step: int = 0, dtype: str = "float32") -> Tree:
    rng = np.random.default_rng([world_size, step])
    return {
        name: jnp.asarray(rng.normal(size=(world_size, *shape)), dtype)
        for name, shape in SHAPES.items()
    }


def _updater(
    optimizer: optax.GradientTransformation, state: Tree, world_size: int, **options: Any
) -> Callable[..., Any]:
    """Returns a jitted update(gradients of all devices, state)."""
    specs = partition_specs(state, "data")

    def update(gradients: Tree, state: Tree) -> Any:
        return optimizer.update(jax.tree.map(lambda g: g[0], gradients), state)

    mapped = jax.shard_map(
        update,
        mesh=make_mesh(data=world_size),
        in_specs=(P("data"), specs),
        out_specs=(P(), specs),
        **options,
    )
    return jax.jit(mapped)


def _vector(tree: Tree) -> np.ndarray:
    """What is compressed, one after another: [world_size, n] float32."""
    return np.concatenate(
        [np.asarray(tree[k], "f4").reshape(len(tree[k]), -1) for k in COMPRESSED], axis=1
    )


def _whole(owned: Any, size: int) -> np.ndarray:
    """The owned residuals of all devices in the order of the vector."""
    parts, begin, owned = [], 0, np.asarray(owned)
    for start, stop in pieces(COMPRESSION, size):
        end = begin + COMPRESSION.codec.chunk_size(stop - start, len(owned))
        parts.append(owned[:, begin:end].ravel()[: stop - start])
        begin = end
    return np.concatenate(parts)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("average", [True, False])
def test_matrices_are_compressed_and_the_rest_is_not(average: bool, dtype: str) -> None:
    world_size = 4
    optimizer = compress_gradients(COMPRESSION, "data", world_size, average=average)
    state = optimizer.init(_params(dtype))
    update = _updater(optimizer, state, world_size)
    size = _vector(_gradients(1)).size
    local, owned = list(np.zeros((world_size, size), "f4")), [np.zeros(size, "f4")]
    for step in range(3):
        gradients = _gradients(world_size, step, dtype)
        reduced, state = update(gradients, state)
        expected = simulation.all_reduce(
            _vector(gradients), COMPRESSION, average=average, local=local, owned=owned, step=step
        )
        sent = np.concatenate([np.ravel(reduced[k]) for k in COMPRESSED])
        np.testing.assert_array_equal(sent, jnp.asarray(expected).astype(dtype))
        np.testing.assert_array_equal(_vector(state.local), local)
        np.testing.assert_array_equal(_whole(state.owned, size), owned[0])
        for name in ("bias", "tiny"):
            exact = np.asarray(gradients[name], np.float64).sum(0) / (world_size if average else 1)
            tolerance = 2.0**-22 if dtype == "float32" else 2.0**-8  # a rounding or two
            np.testing.assert_allclose(
                np.asarray(reduced[name], np.float64), exact, rtol=tolerance, atol=4 * tolerance
            )
    assert state.step == 3
    assert state.local["bias"] is None
    assert all(reduced[name].dtype == dtype for name in SHAPES)


def test_there_are_no_residuals_without_error_feedback() -> None:
    compression = Compression(COMPRESSION.codec, error_feedback=False, min_size=100)
    optimizer = compress_gradients(compression, "data", 2)
    state = optimizer.init(_params())
    assert [leaf.shape for leaf in jax.tree.leaves(state)] == [()]
    gradients = _gradients(2)
    update = _updater(optimizer, state, 2)
    for step in range(2):
        reduced, state = update(gradients, state)
        expected = simulation.all_reduce(_vector(gradients), compression, step=step)
        sent = np.concatenate([np.ravel(reduced[k]) for k in COMPRESSED])
        np.testing.assert_array_equal(sent, expected)


def test_nothing_to_compress_is_summed_exactly() -> None:
    optimizer = compress_gradients(Compression(min_size=10**9), "data", 2)
    state = optimizer.init(_params())
    gradients = _gradients(2)
    reduced, _ = _updater(optimizer, state, 2)(gradients, state)
    for name in SHAPES:
        np.testing.assert_allclose(reduced[name], gradients[name].mean(0), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("check_vma", [True, False])
def test_training_reaches_the_loss_of_float32(check_vma: bool) -> None:
    world_size, num_steps = 4, 200
    rng = np.random.default_rng(0)
    images = rng.normal(size=(256, 30)).astype("f4")
    teacher = rng.normal(size=(30, 10)).astype("f4")
    targets = np.tanh(images @ teacher)
    params = {"hidden": rng.normal(size=(30, 64)).astype("f4") / 6, "bias": np.zeros(64, "f4")}
    params["head"] = rng.normal(size=(64, 10)).astype("f4") / 8

    def loss_fn(params: Tree, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean((jnp.tanh(x @ params["hidden"] + params["bias"]) @ params["head"] - y) ** 2)

    def final_loss(reduce: optax.GradientTransformation) -> float:
        optimizer = optax.chain(reduce, optax.adam(3e-3))
        state = optimizer.init(params)
        specs = partition_specs(state, "data")

        def step(params: Tree, state: Tree, x: jax.Array, y: jax.Array) -> Any:
            own = jax.lax.pcast(params, "data", to="varying")
            updates, state = optimizer.update(jax.grad(loss_fn)(own, x, y), state, params)
            return optax.apply_updates(params, updates), state

        mapped = jax.shard_map(
            step,
            mesh=make_mesh(data=world_size),
            in_specs=(P(), specs, P("data"), P("data")),
            out_specs=(P(), specs),
            check_vma=check_vma,
        )
        run, trained = jax.jit(mapped), params
        for _ in range(num_steps):
            trained, state = run(trained, state, images, targets)
        return float(loss_fn(trained, images, targets))

    exact = final_loss(optax.stateless(lambda g, _: jax.lax.pmean(g, "data")))
    compressed = final_loss(compress_gradients(COMPRESSION, "data", world_size))
    assert exact < 0.2 * float(loss_fn(params, images, targets))  # there is something to learn
    assert compressed == pytest.approx(exact, rel=0.02)  # measured: 0.2 %


@pytest.mark.parametrize("new_world_size", [1, 2, 8])
def test_what_is_pending_survives_another_number_of_devices(new_world_size: int) -> None:
    optimizer = compress_gradients(COMPRESSION, "data", 4)
    state = optimizer.init(_params())
    _, state = _updater(optimizer, state, 4)(_gradients(4), state)
    resized = resize_state(state, COMPRESSION, new_world_size)
    fresh = compress_gradients(COMPRESSION, "data", new_world_size).init(_params())
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), resized)
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), fresh)
    assert resized.step == state.step

    def pending(state: CompressionState) -> np.ndarray:
        local = _vector(state.local)
        return local.mean(0, dtype=np.float64) + _whole(state.owned, local.shape[1])

    assert np.abs(pending(state)).max() > 1e-3
    np.testing.assert_allclose(pending(resized), pending(state), rtol=1e-6, atol=1e-9)
    # Every device holds the same, and goes on from it.
    np.testing.assert_array_equal(_vector(resized.local)[0], _vector(resized.local)[-1])
    resumed = compress_gradients(COMPRESSION, "data", new_world_size)
    zeros = jax.tree.map(jnp.zeros_like, _gradients(new_world_size))
    reduced, after = _updater(resumed, resized, new_world_size)(zeros, resized)
    sent = np.concatenate([np.ravel(reduced[k]) for k in COMPRESSED])
    np.testing.assert_allclose(sent + pending(after), pending(state), rtol=0, atol=1e-7)


def test_a_state_of_another_compression_is_not_resized() -> None:
    state = compress_gradients(COMPRESSION, "data", 4).init(_params())
    with pytest.raises(ValueError, match="bucket_bytes"):
        resize_state(state, Compression(codec(block_size=1_024), min_size=100), 2)


@pytest.mark.parametrize("world_size", [2, 4, 8])
@pytest.mark.parametrize("error_feedback", [True, False])
def test_bytes_are_those_of_the_collectives(world_size: int, error_feedback: bool) -> None:
    compression = Compression(
        COMPRESSION.codec, error_feedback, min_size=100, bucket_bytes=COMPRESSION.bucket_bytes
    )
    wire = bytes_per_step(_params(), compression, world_size)

    def sent(optimizer: optax.GradientTransformation) -> float:
        state = optimizer.init(_params())
        update = _updater(optimizer, state, world_size)
        return bytes_sent(update, world_size, _gradients(world_size), state)

    assert wire.sent_bytes == sent(compress_gradients(compression, "data", world_size))
    plain = optax.stateless(lambda g, _: jax.lax.psum(g, "data"))
    assert wire.float32_bytes == sent(plain)
    assert bytes_per_step(_params(), compression, 1).sent_bytes == 0


def test_gradients_that_are_summed_already_are_refused() -> None:
    optimizer = compress_gradients(COMPRESSION, "data", 2)
    params, state = _params(), optimizer.init(_params())
    specs = partition_specs(state, "data")

    def step(params: Tree, state: Tree, x: jax.Array) -> Any:
        grads = jax.grad(lambda p: jnp.sum(p["head"] * x[0]))(params)
        return optimizer.update(grads, state)

    mapped = jax.shard_map(
        step,
        mesh=make_mesh(data=2),
        in_specs=(P(), specs, P("data")),
        out_specs=(P(), specs),
    )
    with pytest.raises(ValueError, match="pcast"):
        jax.jit(mapped)(params, state, np.ones(2, "f4"))


def test_a_state_for_other_devices_is_refused() -> None:
    optimizer = compress_gradients(COMPRESSION, "data", 4)
    state = optimizer.init(_params())
    with pytest.raises(ValueError, match="resize_state"):
        _updater(optimizer, state, 2)(_gradients(2), state)


def test_a_state_that_is_not_cut_is_refused() -> None:
    optimizer = compress_gradients(COMPRESSION, "data", 2)
    state = optimizer.init(_params())
    mapped = jax.shard_map(
        lambda g, s: optimizer.update(jax.tree.map(lambda x: x[0], g), s),
        mesh=make_mesh(data=2),
        in_specs=(P("data"), P()),
        out_specs=P(),
    )
    with pytest.raises(ValueError, match="partition_specs"):
        jax.jit(mapped)(_gradients(2), state)
