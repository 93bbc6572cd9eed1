"""Nodes of several ranks, simulated: full precision inside a node, 8 bits between nodes."""

import numpy as np
import torch
from numpy.typing import NDArray

from comm.compression import Compression
from comm.testing import ranks, simulation
from comm.torch import collectives
from comm.torch.feedback import Feedback
from comm.wire import Wire, all_reduce_bytes

_COMPRESSION = Compression(ranks_per_node=2, bucket_bytes=4 * 1024)
_SIZES = (1, 100, 5000, 12_345)
_STEPS = 3


def _gradient(rank: int, step: int, size: int) -> NDArray[np.float32]:
    return np.random.default_rng([rank, step, size]).standard_normal(size).astype(np.float32)


def _reduce(rank: int, world_size: int) -> tuple[list[NDArray[np.float32]], list[Wire]]:
    results, wires = [], []
    for size in _SIZES:
        feedback = Feedback()
        for step in range(_STEPS):
            x, wire = torch.from_numpy(_gradient(rank, step, size)), Wire()
            collectives.all_reduce(
                x, _COMPRESSION, average=step != 2, feedback=feedback, step=step, wire=wire
            )
            results.append(x.numpy())
            wires.append(wire)
    return results, wires


def test_nodes_exchange_what_their_ranks_sum() -> None:
    # Two ranks' float32 sum is the same in any order, so the simulation's bits are the right ones.
    by_rank = ranks.run(_reduce, 4)
    i = 0
    for size in _SIZES:
        local = [np.zeros(size, np.float32) for _ in range(2)]
        owned = [np.zeros(size, np.float32)]
        for step in range(_STEPS):
            average = step != 2
            xs = [_gradient(rank, step, size) for rank in range(4)]
            factor = np.float32(0.5 if average else 1)
            nodes = [(xs[0] + xs[1]) * factor, (xs[2] + xs[3]) * factor]
            want = simulation.all_reduce(
                nodes, _COMPRESSION, average=average, local=local, owned=owned, step=step
            )
            for results, _ in by_rank:
                np.testing.assert_array_equal(results[i], want)
            i += 1


def test_counts_what_goes_between_nodes() -> None:
    _, wires = ranks.run(_reduce, 4)[0]
    # Rank 0 is one of two that send a half each; halves are whole blocks.
    half = _COMPRESSION.codec.chunk_size(_SIZES[-1], 2)
    assert wires[-1].float32_bytes == all_reduce_bytes(4 * half, 2)
    assert wires[-1].ratio < 0.27


def _one_node(rank: int, world_size: int) -> None:
    x, wire, feedback = torch.full((1000,), 1.001 + rank), Wire(), Feedback()
    exact = x.clone()
    torch.distributed.all_reduce(exact)
    collectives.all_reduce(
        x, Compression(ranks_per_node=2), average=False, feedback=feedback, wire=wire
    )
    assert torch.equal(x, exact)
    assert wire == Wire()
    assert feedback.local is None


def test_a_single_node_loses_nothing() -> None:
    ranks.run(_one_node, 2)


def _in_part_of_the_world(rank: int, world_size: int) -> float:
    """Ranks 0 to 3 are two nodes; rank 4 stays out."""
    group = torch.distributed.new_group([0, 1, 2, 3])
    if rank == 4:
        return -1.0
    x = torch.full((1000,), float(rank))
    collectives.all_reduce(x, _COMPRESSION, group=group, average=False)
    return x[0].item()


def test_a_group_may_be_part_of_the_world() -> None:
    assert ranks.run(_in_part_of_the_world, 5) == [6.0, 6.0, 6.0, 6.0, -1.0]
