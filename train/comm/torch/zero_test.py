"""Tests that models train in DeepSpeed with compressed gradients as they do without.

Every run is compared with the same run uncompressed: same weights, batches and order. One set of
processes makes all runs of a number of ranks, since starting DeepSpeed takes longer than they do.
"""

import functools
import hashlib
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from train.comm.torch import ranks, zero_example

_NUM_STEPS = 30

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 2},
    "clipping": {"gradient_clipping": 0.05},
    "bf16": {"bf16": {"enabled": True}},
    "bf16, float32 accumulation": {
        "bf16": {"enabled": True},
        "data_types": {"grad_accum_dtype": "fp32"},
        "gradient_accumulation_steps": 2,
    },
    "small buckets, overlap": {
        "zero": {"reduce_bucket_size": 10_000, "overlap_comm": True, "round_robin_gradients": True}
    },
    "offload": {"zero": {"offload_optimizer": {"device": "cpu"}}},
}

# What of the variants DeepSpeed has at a stage; of four ranks, on as many cores, the plain one.
CASES = {
    2: [
        (stage, variant)
        for stage in zero_example.STAGES
        for variant in VARIANTS
        if not (stage == 0 and variant in ("bf16, float32 accumulation", "offload"))
    ],
    4: [(stage, "plain") for stage in zero_example.STAGES],
}
_ALL_CASES = [(world_size, *case) for world_size, cases in CASES.items() for case in cases]
_all_cases = pytest.mark.parametrize(("world_size", "stage", "variant"), _ALL_CASES)

# Mean loss of the last steps over that of the uncompressed run, at most this far from 1. The loss
# itself has fallen to less than half; without error feedback 4-bit codes are off by more.
_LOSS_TOLERANCE = 0.02

# The project's promise, of which 0.254 are codes and scales, the rest plain biases and padding.
_MAX_RATIO = 0.27


class Run(NamedTuple):
    """What one rank saw of one run."""

    losses: list[float]
    digest: str
    ratio: float
    skipped_steps: int


def _run_all(rank: int, world_size: int) -> dict[tuple[int, str], tuple[Run, Run]]:
    return {
        (stage, variant): (
            _run(rank, world_size, stage, VARIANTS[variant], compress=False),
            _run(rank, world_size, stage, VARIANTS[variant], compress=True),
        )
        for stage, variant in CASES[world_size]
    }


def _run(rank: int, world_size: int, stage: int, config: dict[str, Any], *, compress: bool) -> Run:
    model = zero_example.classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    engine = zero_example.start(model, optimizer, rank, world_size, stage, config)
    handle = zero_example.compressed(engine) if compress else None
    losses = zero_example.train(engine, rank, _NUM_STEPS)
    digest = hashlib.sha256(b"".join(w.tobytes() for w in zero_example.weights(engine)))
    ratio = handle.wire.ratio if handle else 1.0
    return Run(losses, digest.hexdigest(), ratio, engine.skipped_steps)


@functools.cache
def _runs(world_size: int) -> list[dict[tuple[int, str], tuple[Run, Run]]]:
    zero_example.preload()
    return ranks.run(_run_all, world_size)


def _final_loss(runs: list[Run]) -> float:
    return float(np.mean([run.losses[-10:] for run in runs]))


@_all_cases
def test_loss_follows_the_uncompressed_run(world_size: int, stage: int, variant: str) -> None:
    pairs = [of_rank[stage, variant] for of_rank in _runs(world_size)]
    plain, compressed = _final_loss([a for a, _ in pairs]), _final_loss([b for _, b in pairs])
    assert compressed < 0.8 * pairs[0][1].losses[0]
    assert compressed == pytest.approx(plain, rel=_LOSS_TOLERANCE)
    assert [b.losses for _, b in pairs] != [a.losses for a, _ in pairs]


@_all_cases
def test_all_ranks_end_with_the_same_bits(world_size: int, stage: int, variant: str) -> None:
    assert len({of_rank[stage, variant][1].digest for of_rank in _runs(world_size)}) == 1


@_all_cases
def test_a_quarter_of_float32_is_sent(world_size: int, stage: int, variant: str) -> None:
    ratios = [of_rank[stage, variant][1].ratio for of_rank in _runs(world_size)]
    assert 0.25 < np.mean(ratios) <= _MAX_RATIO


@pytest.mark.parametrize("world_size", CASES)
def test_no_step_is_skipped(world_size: int) -> None:
    pairs = [pair for of_rank in _runs(world_size) for pair in of_rank.values()]
    assert all(run.skipped_steps == 0 for pair in pairs for run in pair)
