"""Tests of residuals under a dynamic loss scale, which grows, and falls when a gradient overflows.

As in zero_exactness_test.py, with float16 gradients and the loss scales that DeepSpeed reports.
"""

import functools
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from deepspeed.accelerator import get_accelerator

from comm.testing import ranks, zero_engines
from comm.testing.zero_simulation import (
    COMPRESSION,
    SHAPES,
    Average,
    Floats,
    gradients,
    round_to,
)

# Not 0, which is refused: see zero_support.py.
STAGES = (1, 2, 3)

_WORLD_SIZE = 2
_NUM_STEPS = 8
_OVERFLOWING_STEP = 4

_CONFIG = {
    "fp16": {
        "enabled": True,
        "initial_scale_power": 7,
        "loss_scale_window": 2,
        "hysteresis": 1,
    }
}


class Run(NamedTuple):
    """What one rank saw: weights, loss scales, skipped steps, its largest residual."""

    weights: list[Floats]
    scales: list[float]  # before each step, and after the last
    num_skipped: int
    largest_residual: float


def _inputs(rank: int, step: int) -> list[torch.Tensor]:
    inputs = gradients(rank, step, torch.float16)
    if step == _OVERFLOWING_STEP and rank == 1:
        inputs[0][3, 7] = 6e4  # times any scale but 1 it is infinite
    return inputs


def _run_all(rank: int, world_size: int) -> list[Run]:
    return [_run(rank, world_size, stage) for stage in STAGES]


def _run(rank: int, world_size: int, stage: int) -> Run:
    # DeepSpeed refuses float16 on CPUs where it is slow; PyTorch computes it on all.
    get_accelerator().is_fp16_supported = lambda: True
    model = zero_engines.Dot(SHAPES)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    engine = zero_engines.start(model, optimizer, rank, world_size, stage, _CONFIG)
    handle = zero_engines.compressed(engine, COMPRESSION)
    scales = []
    for step in range(_NUM_STEPS):
        scales.append(float(engine.optimizer.loss_scale))
        engine.backward(engine(*_inputs(rank, step)))
        engine.step()
    scales.append(float(engine.optimizer.loss_scale))
    feedbacks = (handle.residuals.feedbacks or {}).values()
    largest = max(feedback.local.values.abs().max().item() for feedback in feedbacks)
    return Run(zero_engines.weights(engine), scales, engine.skipped_steps, largest)


@functools.cache
def _runs() -> list[list[Run]]:
    zero_engines.preload()
    return ranks.run(_run_all, _WORLD_SIZE)


def _simulate(stage: int, scales: list[float]) -> list[Floats]:
    averages = [Average(_WORLD_SIZE, stage, p) for p in range(len(SHAPES))]
    weights = [np.zeros(shape, np.float32).ravel() for shape in SHAPES]
    previous = 1.0
    for step, (scale, next_scale) in enumerate(pairwise(scales)):
        inputs = [_inputs(rank, step) for rank in range(_WORLD_SIZE)]
        means = []
        for p, average in enumerate(averages):
            average.rescale(scale / previous)
            scaled = [(of_rank[p] * scale).float().numpy().ravel() for of_rank in inputs]
            means.append(round_to(average(scaled), torch.float16))
        previous = scale
        if all(np.isfinite(mean).all() for mean in means):
            # DeepSpeed first updates the scale and then divides by it, so that the step in which
            # the scale doubles is half as long.
            steps = [mean / np.float32(next_scale) for mean in means]
            weights = [w - step for w, step in zip(weights, steps, strict=True)]
    return [
        round_to(w, torch.float16).reshape(shape) for w, shape in zip(weights, SHAPES, strict=True)
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_the_scale_both_rises_and_falls(stage: int) -> None:
    for of_rank in _runs():
        run = of_rank[STAGES.index(stage)]
        scales = np.array(run.scales)
        assert run.num_skipped == 1
        assert (np.diff(scales) > 0).any()
        assert (np.diff(scales) < 0).any()


@pytest.mark.parametrize("stage", STAGES)
def test_steps_are_those_of_the_simulation(stage: int) -> None:
    for of_rank in _runs():
        run = of_rank[STAGES.index(stage)]
        expected = _simulate(stage, run.scales)
        for got, want in zip(run.weights, expected, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("stage", STAGES)
def test_the_simulation_sees_whether_residuals_are_rescaled(stage: int) -> None:
    run = _runs()[0][STAGES.index(stage)]
    rescaled = _simulate(stage, run.scales)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Average, "rescale", lambda self, factor: None)
        forgotten = _simulate(stage, run.scales)
    assert any((a != b).any() for a, b in zip(rescaled, forgotten, strict=True))


@pytest.mark.parametrize("stage", STAGES)
def test_a_skipped_step_leaves_finite_residuals(stage: int) -> None:
    for of_rank in _runs():
        run = of_rank[STAGES.index(stage)]
        # Half a step of the codes of values that are below 8 before they are scaled.
        assert 0 < run.largest_residual < 8 / 254 * max(run.scales)
