"""From DeepSpeed's checkpoints every optimizer goes on bit for bit, under every stage of ZeRO."""

import itertools
from typing import NamedTuple

import deepspeed
import numpy as np
import pytest

from comm.testing import ranks, zero_engines
from optim.registry import ALGORITHMS, algorithm
from optim.sophia import Sophia
from optim.torch.curvature import gauss_newton_bartlett
from optim.torch.optimizer import Optimizer, decay_groups

_STEPS = 2


class Case(NamedTuple):
    """What is trained by what."""

    name: str
    stage: int
    state_bits: int


# Every algorithm under every stage, every second one of them with 8 bits.
_CASES = [
    Case(name, stage, state_bits=(32, 8)[(index + stage) % 2])
    for (index, name), stage in itertools.product(enumerate(ALGORITHMS), (1, 2, 3))
]


def _start(rank: int, world_size: int, case: Case) -> tuple[deepspeed.DeepSpeedEngine, Optimizer]:
    model = zero_engines.classifier()
    settings = algorithm(case.name, weight_decay=0.1, state_bits=case.state_bits)
    optimizer = Optimizer(decay_groups(model), settings)
    return zero_engines.start(model, optimizer, rank, world_size, case.stage), optimizer


def _train(
    engine: deepspeed.DeepSpeedEngine, optimizer: Optimizer, rank: int, first_step: int
) -> None:
    for step in range(first_step, first_step + _STEPS):
        if isinstance(optimizer.algorithm, Sophia):
            with optimizer.estimating_curvature(gauss_newton_bartlett(2)):
                zero_engines.train(engine, rank, 1, first_step=step)
        zero_engines.train(engine, rank, 1, first_step=step)


def _resume(
    rank: int, world_size: int, case: Case, folder: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    engine, optimizer = _start(rank, world_size, case)
    _train(engine, optimizer, rank, 0)
    engine.save_checkpoint(folder)
    _train(engine, optimizer, rank, _STEPS)
    resumed, optimizer = _start(rank, world_size, case)
    resumed.load_checkpoint(folder)
    _train(resumed, optimizer, rank, _STEPS)
    return zero_engines.weights(engine), zero_engines.weights(resumed)


def _resume_all(rank: int, world_size: int, folder: str) -> list:
    return [_resume(rank, world_size, case, f"{folder}/{case}") for case in _CASES]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> list[list]:
    zero_engines.preload()
    folder = str(tmp_path_factory.mktemp("checkpoints"))
    return ranks.run(_resume_all, 2, folder)


@pytest.mark.parametrize("index", range(len(_CASES)), ids=map(str, _CASES))
def test_a_resumed_run_ends_with_the_same_bits(resumed: list[list], index: int) -> None:
    for of_rank in resumed:
        for whole, other in zip(*of_rank[index], strict=True):
            np.testing.assert_array_equal(other, whole)
