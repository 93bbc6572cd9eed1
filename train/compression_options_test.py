"""Every option of `gradient_compression` trains in both trainers, on two ranks and on four."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from train.parity_runs import Run, run_flax, run_torch

jax.config.update("jax_num_cpu_devices", 4)

_NUM_STEPS = 3

# Losses in so few steps, which begin at 2.3026 and have hardly moved: measured, up to 3e-4, of
# float8_e5m2.
_LOSS_TOLERANCE = 2e-3

# Each differs from the defaults in something else; `min_size` of 0 has all matrices compressed.
_OPTIONS: dict[str, dict[str, Any]] = {
    "float8_e5m2, stochastic": {"format": "float8_e5m2", "rounding": "stochastic"},
    "no feedback, long blocks": {"error_feedback": False, "block_size": 4096, "min_size": 0},
    "small buckets": {"bucket_bytes": 16384, "block_size": 64, "format": "float8_e4m3fn"},
    "nothing is large enough": {"min_size": 10**9},
    "nodes of one": {"ranks_per_node": 1},
    "nodes of two": {"ranks_per_node": 2, "rounding": "stochastic"},
    "nodes of two, no feedback": {"ranks_per_node": 2, "error_feedback": False},
}
# Of PyTorch alone: what ZeRO partitions. It has no nodes.
_ZERO = {
    f"{name}, stage {stage}": {**_OPTIONS[name]}
    for stage in (1, 2, 3)
    for name in ("float8_e5m2, stochastic", "no feedback, long blocks", "small buckets")
}
_FLAX = ("no feedback, long blocks", "nodes of two", "nodes of two, no feedback")


def _sections(name: str) -> dict[str, Any]:
    if name in _ZERO:
        return {
            "gradient_compression": {"enabled": True, **_ZERO[name]},
            "zero": {"stage": int(name[-1])},
        }
    return {"gradient_compression": {"enabled": True, **_OPTIONS[name]}}


@pytest.fixture(scope="module")
def uncompressed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("flax")
    return run_flax(directory / "run", num_steps=_NUM_STEPS)


@pytest.fixture(scope="module", params=[2, 4])
def torch_runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Run]:
    names = [*_OPTIONS, *_ZERO]
    directory = tmp_path_factory.mktemp("torch")
    sections = [_sections(name) for name in names]
    runs = run_torch(directory, request.param, sections, num_steps=_NUM_STEPS)
    return dict(zip(names, runs, strict=True))


@pytest.mark.parametrize("name", [*_OPTIONS, *_ZERO])
def test_torch_trains_with(name: str, torch_runs: dict[str, Run], uncompressed: Run) -> None:
    _check(torch_runs[name], uncompressed)


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("name", _FLAX)
def test_flax_trains_with(name: str, world_size: int, uncompressed: Run, tmp_path: Path) -> None:
    run = run_flax(tmp_path / "run", world_size=world_size, num_steps=_NUM_STEPS, **_sections(name))
    _check(run, uncompressed)


def _check(run: Run, uncompressed: Run) -> None:
    np.testing.assert_allclose(run.losses, uncompressed.losses, rtol=0, atol=_LOSS_TOLERANCE)
    assert run.communication is not None
    assert 0.25 < run.communication.ratio < 1.05
