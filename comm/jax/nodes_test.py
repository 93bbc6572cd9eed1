"""Nodes of several devices, simulated: full precision inside a node, 8 bits between nodes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from comm.compression import Compression
from comm.jax.transformation import (
    bytes_per_step,
    compress_gradients,
    partition_specs,
    resize_state,
)
from comm.testing import simulation
from comm.testing.virtual_devices import make_mesh
from comm.wire import all_reduce_bytes
from kernels.quantize.contract import codec

_WORLD_SIZE = 4
_AXES = ("node", "device")

# Several pieces, of which the last is not whole, nor is the second share.
_SHAPES = {"large": (30, 101), "more": (7, 300), "small": (9,)}
_SIZE = 30 * 101 + 7 * 300
_NUM_STEPS = 3


def _compression(rounding: str = "nearest", **options: Any) -> Compression:
    chosen = codec(block_size=64, rounding=rounding)
    return Compression(chosen, min_size=100, bucket_bytes=4096, ranks_per_node=2, seed=5, **options)


def _gradients(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {k: rng.normal(size=(_WORLD_SIZE, *s)).astype("f4") for k, s in _SHAPES.items()}


def _params() -> dict[str, jax.Array]:
    return {name: jnp.zeros(shape) for name, shape in _SHAPES.items()}


def _run(compression: Compression, *, average: bool, per_node: int = 2) -> list[Any]:
    """Returns what every device has of each step's gradients: [_WORLD_SIZE, ...] each."""
    optimizer = compress_gradients(compression, _AXES, _WORLD_SIZE, average=average)
    state = optimizer.init(_params())
    specs = partition_specs(state, _AXES)

    def update(gradients: Any, state: Any) -> Any:
        means, state = optimizer.update(jax.tree.map(lambda g: g[0], gradients), state)
        # For a look at every device's own.
        means = jax.lax.pcast(means, _AXES, to="varying")
        return jax.tree.map(lambda x: x[None], means), state

    mapped = jax.jit(
        jax.shard_map(
            update,
            mesh=make_mesh(node=_WORLD_SIZE // per_node, device=per_node),
            in_specs=(P(_AXES), specs),
            out_specs=(P(_AXES), specs),
        )
    )
    results = []
    for step in range(_NUM_STEPS):
        means, state = mapped(_gradients(step), state)
        results.append(means)
    return results


@pytest.mark.parametrize(
    ("rounding", "error_feedback", "average"),
    [("nearest", True, True), ("stochastic", True, False), ("stochastic", False, True)],
)
def test_nodes_exchange_what_their_devices_sum(
    rounding: str, error_feedback: bool, average: bool
) -> None:
    # Two devices' float32 sum is the same in any order, so the simulation's bits are the right
    # ones; and comm/torch/nodes_test.py holds PyTorch to the same simulation.
    compression = _compression(rounding, error_feedback=error_feedback)
    local = [np.zeros(_SIZE, "f4") for _ in range(2)] if error_feedback else None
    owned = [np.zeros(_SIZE, "f4")] if error_feedback else None
    for step, means in enumerate(_run(compression, average=average)):
        gradients = _gradients(step)
        rows = [
            np.concatenate([gradients[k][r].ravel() for k in ("large", "more")]) for r in range(4)
        ]
        factor = np.float32(0.5 if average else 1)
        nodes = [(rows[0] + rows[1]) * factor, (rows[2] + rows[3]) * factor]
        want = simulation.all_reduce(
            nodes, compression, average=average, local=local, owned=owned, step=step
        )
        for device in range(_WORLD_SIZE):
            got = np.concatenate([np.ravel(means[k][device]) for k in ("large", "more")])
            np.testing.assert_array_equal(got, want)
        exact = gradients["small"].sum(0) / (4 if average else 1)
        np.testing.assert_allclose(means["small"][0], exact, rtol=1e-6, atol=1e-6)


def test_a_single_node_loses_nothing() -> None:
    compression = Compression(min_size=100, ranks_per_node=4)
    for step, means in enumerate(_run(compression, average=True, per_node=4)):
        for name, gradients in _gradients(step).items():
            np.testing.assert_allclose(means[name][0], gradients.mean(0), rtol=1e-6, atol=1e-6)


def test_counts_what_goes_between_nodes() -> None:
    compression = _compression()
    wire = bytes_per_step(_params(), compression, _WORLD_SIZE)
    share = compression.codec.chunk_size(_SIZE, 2)
    plain = all_reduce_bytes(4 * 9, _WORLD_SIZE)
    assert wire.float32_bytes == all_reduce_bytes(4 * share, 2) + plain
    assert wire.ratio < 0.3


def test_refuses_a_mesh_of_other_nodes() -> None:
    with pytest.raises(ValueError, match=r"ranks_per_node 2 needs two mesh axes.*'device': 4"):
        _run(_compression(), average=True, per_node=4)


def test_refuses_to_resize() -> None:
    compression = _compression()
    state = compress_gradients(compression, _AXES, _WORLD_SIZE).init(_params())
    with pytest.raises(ValueError, match="ranks_per_node"):
        resize_state(state, compression, 2)
