"""Nodes of several ranks in a DeepSpeed engine of stage 0: 8 bits go between nodes only.

As in zero_exactness_test.py, weights tell what the averaged gradients were.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from comm.compression import Compression
from comm.testing import ranks, simulation, zero_engines
from comm.testing.zero_simulation import COMPRESSED, COMPRESSION, SHAPES, Floats, gradients
from comm.torch.zero import ZeroCompression

_NODES = replace(COMPRESSION, ranks_per_node=2)
_ONE_NODE = replace(COMPRESSION, ranks_per_node=4)
_NUM_STEPS = 4
_SAVED_STEP = 2


class Runs(NamedTuple):
    """What one rank ends with: parameters of each run, and bytes."""

    nodes: list[Floats]
    resumed: list[Floats]
    one_node: list[Floats]
    ratio: float
    ratio_of_one_node: float


def _start(rank: int, world_size: int, compression: Compression) -> tuple[object, ZeroCompression]:
    model = zero_engines.Dot(SHAPES)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    engine = zero_engines.start(model, optimizer, rank, world_size, 0)
    return engine, zero_engines.compressed(engine, compression)


def _train(engine: object, rank: int, steps: range) -> list[Floats]:
    for step in steps:
        engine.backward(engine(*gradients(rank, step, torch.float32)))  # type: ignore[attr-defined, operator]
        engine.step()  # type: ignore[attr-defined]
    return zero_engines.weights(engine)


def _run_all(rank: int, world_size: int, folder: str) -> Runs:
    engine, handle = _start(rank, world_size, _NODES)
    _train(engine, rank, range(_SAVED_STEP))
    engine.save_checkpoint(folder)  # type: ignore[attr-defined]
    nodes = _train(engine, rank, range(_SAVED_STEP, _NUM_STEPS))
    again, _ = _start(rank, world_size, _NODES)
    again.load_checkpoint(folder)  # type: ignore[attr-defined]
    resumed = _train(again, rank, range(_SAVED_STEP, _NUM_STEPS))
    engine, handle_of_one = _start(rank, world_size, _ONE_NODE)
    one_node = _train(engine, rank, range(_NUM_STEPS))
    return Runs(nodes, resumed, one_node, handle.wire.ratio, handle_of_one.wire.ratio)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Runs]:
    zero_engines.preload()
    return ranks.run(_run_all, 4, str(tmp_path_factory.mktemp("checkpoint")))


def _means(param: int) -> Floats:
    """Returns the sum over all steps of the means of four ranks in two nodes."""
    size = int(np.prod(SHAPES[param]))
    local, owned = [np.zeros(size, np.float32) for _ in range(2)], [np.zeros(size, np.float32)]
    total = np.zeros(size, np.float32)
    for step in range(_NUM_STEPS):
        xs = [gradients(rank, step, torch.float32)[param].numpy().ravel() for rank in range(4)]
        nodes = [(xs[0] + xs[1]) * np.float32(0.5), (xs[2] + xs[3]) * np.float32(0.5)]
        if COMPRESSED[param]:
            total += simulation.all_reduce(nodes, _NODES, local=local, owned=owned)
        else:
            total += (xs[0] + xs[1] + xs[2] + xs[3]) * np.float32(0.25)
    return total


@pytest.mark.parametrize("param", range(len(SHAPES)))
def test_steps_are_those_of_the_simulation(runs: list[Runs], param: int) -> None:
    # What is added up step by step is subtracted step by step, so signs are all that differs.
    expected = -_means(param).reshape(SHAPES[param])
    for of_rank in runs:
        np.testing.assert_array_equal(of_rank.nodes[param], expected)


def test_a_resumed_run_ends_with_the_same_bits(runs: list[Runs]) -> None:
    for of_rank in runs:
        for whole, resumed in zip(of_rank.nodes, of_rank.resumed, strict=True):
            np.testing.assert_array_equal(resumed, whole)


def test_one_node_loses_nothing(runs: list[Runs]) -> None:
    for param in range(len(SHAPES)):
        exact = -sum(
            np.mean([gradients(rank, step, torch.float32)[param].numpy() for rank in range(4)], 0)
            for step in range(_NUM_STEPS)
        )
        np.testing.assert_allclose(runs[0].one_node[param], exact, rtol=1e-5, atol=1e-6)
    # Of what is never compressed, in rows of whole words.
    assert 1.0 <= runs[0].ratio_of_one_node < 1.05


def test_a_quarter_of_float32_goes_between_nodes(runs: list[Runs]) -> None:
    assert 0.25 < np.mean([of_rank.ratio for of_rank in runs]) < 0.29
