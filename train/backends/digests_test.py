"""Ranks that have the same weights have the same digest, and one bit makes another."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comm.testing import ranks, zero_engines
from models.weights import init_weights
from train.testing.sower.runs import sower_config

# Takes effect until JAX starts.
jax.config.update("jax_num_cpu_devices", 3)

_ODD = 1
_CONFIG: dict[str, Any] = {"data": {"global_batch_size": 15}}


def test_flax() -> None:
    from train.backends.flax_backend import FlaxBackend

    config = sower_config(**_CONFIG)
    backend = FlaxBackend(config, world_size=3)
    backend.start(init_weights(config.model, 0))
    backend._state = jax.device_put(backend._state, backend._shardings)
    assert len(set(backend.digests())) == 1

    def with_an_odd_one(leaf: jax.Array) -> jax.Array:
        copies = [np.asarray(shard.data).copy() for shard in leaf.addressable_shards]
        copies[_ODD].view(np.uint8).reshape(-1)[0] ^= 1
        devices = [shard.device for shard in leaf.addressable_shards]
        arrays = [jax.device_put(jnp.asarray(c), d) for c, d in zip(copies, devices, strict=True)]
        return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, arrays)

    statistics = jax.tree.map(with_an_odd_one, backend._state.statistics)
    backend._state = backend._state._replace(statistics=statistics)
    first, odd, last = backend.digests()
    assert first == last != odd


def _of_rank(rank: int, world_size: int) -> list[list[str]]:
    import torch

    from train.backends.deepspeed_backend import DeepSpeedBackend

    os.environ["LOCAL_RANK"] = str(rank)  # DeepSpeed insists on it
    found = []
    for stage in (0, 1, 2):
        config = sower_config(**_CONFIG, zero={"stage": stage})
        backend = DeepSpeedBackend(config)
        backend.start(init_weights(config.model, 0))
        found.append(backend.digests())
        if rank == _ODD:
            parameter = next(backend._engine.module.parameters())
            with torch.no_grad():
                parameter.view(torch.int32).view(-1)[0] ^= 1
        found.append(backend.digests())
    return found


@pytest.fixture(scope="module")
def of_ranks() -> list[list[list[str]]]:
    zero_engines.preload()
    return ranks.run(_of_rank, 3)


def test_deepspeed(of_ranks: list[list[list[str]]]) -> None:
    for found in of_ranks:
        for before, after in zip(found[::2], found[1::2], strict=True):
            assert len(set(before)) == 1
            first, odd, last = after
            assert first == last == before[0] != odd
