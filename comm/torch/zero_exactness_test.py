"""Tests that what DeepSpeed steps with is, bit for bit, what a simulation in numpy says.

The model's gradient is its input and the optimizer subtracts it, so that weights tell what the
averaged gradients were.
"""

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from comm.compression import Compression
from comm.testing import ranks, zero_engines
from comm.testing.zero_simulation import (
    COMPRESSION,
    SHAPES,
    Average,
    Floats,
    gradients,
    round_to,
)
from kernels.quantize.contract import codec

_NUM_STEPS = 3

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 2},
    "full reduction": {"zero": {"reduce_scatter": False}},
    "small buckets": {"zero": {"reduce_bucket_size": 5000}},
    "predivide": {"gradient_predivide_factor": 4.0, "zero": {"reduce_scatter": False}},
    "bf16": {"bf16": {"enabled": True}},
    "clipping": {"gradient_clipping": 0.5},
    "stochastic": {},
}
CASES = [
    (stage, variant)
    for stage in zero_engines.STAGES
    for variant in VARIANTS
    if not (stage == 3 and variant in ("full reduction", "predivide"))
]

# The noise of a value is that of its place in the model, whoever quantizes it.
_STOCHASTIC = replace(COMPRESSION, codec=codec(rounding="stochastic"), seed=5)

# The norm is a float32 sum over partitions, in an order that is DeepSpeed's.
_CLIPPING_TOLERANCE = 1e-5


def _run_all(rank: int, world_size: int) -> dict[tuple[int, str], list[Floats]]:
    return {case: _run(rank, world_size, *case) for case in CASES}


def _compression(variant: str) -> Compression:
    return _STOCHASTIC if variant == "stochastic" else COMPRESSION


def _run(rank: int, world_size: int, stage: int, variant: str) -> list[Floats]:
    config = VARIANTS[variant]
    model = zero_engines.Dot(SHAPES)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    engine = zero_engines.start(model, optimizer, rank, world_size, stage, config)
    zero_engines.compressed(engine, _compression(variant))
    dtype = torch.bfloat16 if "bf16" in config else torch.float32
    for i in range(_NUM_STEPS * engine.gradient_accumulation_steps()):
        engine.backward(engine(*gradients(rank, i, dtype)))
        engine.step()
    return zero_engines.weights(engine)


@functools.cache
def _runs(world_size: int) -> list[dict[tuple[int, str], list[Floats]]]:
    zero_engines.preload()
    return ranks.run(_run_all, world_size)


def _simulate(world_size: int, stage: int, variant: str) -> list[Floats]:
    config = VARIANTS[variant]
    dtype = torch.bfloat16 if "bf16" in config else torch.float32
    micro_batches = config.get("gradient_accumulation_steps", 1)
    averages = [Average(world_size, stage, p, _compression(variant)) for p in range(len(SHAPES))]
    weights = [np.zeros(shape, np.float32).ravel() for shape in SHAPES]
    for step in range(_NUM_STEPS):
        batches = range(step * micro_batches, (step + 1) * micro_batches)
        # [parameter][micro-batch][rank]; DeepSpeed divides the loss by the number of micro-batches.
        local = [
            [
                [
                    gradients(rank, i, dtype)[p].float().numpy().ravel() / np.float32(micro_batches)
                    for rank in range(world_size)
                ]
                for i in batches
            ]
            for p in range(len(SHAPES))
        ]
        if stage < 2:  # these reduce what they have accumulated
            local = [[list(functools.reduce(np.add, np.array(of_p)))] for of_p in local]
        means = [
            functools.reduce(np.add, [round_to(averages[p](x), dtype) for x in of_p])
            for p, of_p in enumerate(local)
        ]
        norm = np.sqrt(sum(float(np.sum(mean.astype(np.float64) ** 2)) for mean in means))
        limit = config.get("gradient_clipping")
        factor = np.float32(min(1.0, limit / (norm + 1e-6)) if limit else 1.0)
        weights = [w - factor * mean for w, mean in zip(weights, means, strict=True)]
    return [round_to(w, dtype).reshape(shape) for w, shape in zip(weights, SHAPES, strict=True)]


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize(("stage", "variant"), CASES)
def test_steps_are_those_of_the_simulation(world_size: int, stage: int, variant: str) -> None:
    expected = _simulate(world_size, stage, variant)
    for of_rank in _runs(world_size):
        for got, want in zip(of_rank[stage, variant], expected, strict=True):
            if variant == "clipping":
                np.testing.assert_allclose(got, want, rtol=_CLIPPING_TOLERANCE, atol=1e-7)
            else:
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_simulation_is_of_a_mean(world_size: int) -> None:
    """So that it cannot agree with a code that forgets a rank or a factor."""
    exact = [
        -sum(
            np.mean(
                [gradients(rank, step, torch.float32)[p].numpy() for rank in range(world_size)], 0
            )
            for step in range(_NUM_STEPS)
        )
        for p in range(len(SHAPES))
    ]
    for stage in zero_engines.STAGES:
        for got, want in zip(_simulate(world_size, stage, "plain"), exact, strict=True):
            # What is pending is at most half a step of the codes, 1/254 of the largest value.
            assert np.abs(got - want).max() < 0.05
