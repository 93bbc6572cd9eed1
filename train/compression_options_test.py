"""Every option of `gradient_compression` trains in both trainers, on two ranks and on four.

What an option changes is held to a run without compression: it differs where something is
compressed, by little, and is the same run where nothing is.
"""

from typing import Any

import jax
import numpy as np
import pytest

from train.testing.parity_runs import (
    LOSS_TOLERANCE,
    Run,
    compile_once,
    fraction_apart,
    run_flax,
    run_torch,
)

jax.config.update("jax_num_cpu_devices", 4)

_NUM_STEPS = 3

# Measured: up to 4e-4, of 4096 values a scale; training moves the loss by 2e-3.
_LOSS_TOLERANCE = 8e-4

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
    f"{name}, stage {stage}": _OPTIONS[name]
    for stage in (1, 2, 3)
    for name in ("float8_e5m2, stochastic", "no feedback, long blocks", "small buckets")
}
_NODES_OF_TWO = ("nodes of two", "nodes of two, no feedback")

# By the number of ranks. Four are two nodes of two; what has no nodes is one rank more of the same.
_TORCH = {
    2: [*_OPTIONS, *_ZERO],
    4: [
        *_NODES_OF_TWO,
        "float8_e5m2, stochastic, stage 1",
        "no feedback, long blocks, stage 2",
        "small buckets, stage 3",
    ],
}
_FLAX = {2: ["no feedback, long blocks", "nodes of two"], 4: _NODES_OF_TWO}

Runs = dict[tuple[int, str], Run]


def _sections(name: str) -> dict[str, Any]:
    if name in _ZERO:
        return {
            "gradient_compression": {"enabled": True, **_ZERO[name]},
            "zero": {"stage": int(name[-1])},
        }
    return {"gradient_compression": {"enabled": True, **_OPTIONS[name]}}


def _each(names: dict[int, Any]) -> list[tuple[int, str]]:
    return [(world_size, name) for world_size, of_size in names.items() for name in of_size]


@pytest.fixture(scope="module")
def uncompressed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    compile_once(tmp_path_factory.mktemp("programs"))
    return run_flax(tmp_path_factory.mktemp("flax") / "run", num_steps=_NUM_STEPS)


@pytest.fixture(scope="module")
def torch_runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    runs: Runs = {}
    for world_size, names in _TORCH.items():
        directory = tmp_path_factory.mktemp("torch")
        sections = [_sections(name) for name in names]
        trained = run_torch(directory, world_size, sections, num_steps=_NUM_STEPS)
        runs |= {(world_size, name): run for name, run in zip(names, trained, strict=True)}
    return runs


@pytest.fixture(scope="module")
def flax_runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return {
        (world_size, name): run_flax(
            tmp_path_factory.mktemp("flax") / "run",
            world_size=world_size,
            num_steps=_NUM_STEPS,
            **_sections(name),
        )
        for world_size, name in _each(_FLAX)
    }


@pytest.mark.parametrize(("world_size", "name"), _each(_TORCH))
def test_torch_trains_with(world_size: int, name: str, torch_runs: Runs, uncompressed: Run) -> None:
    _check(torch_runs[world_size, name], uncompressed, world_size, name)


@pytest.mark.parametrize(("world_size", "name"), _each(_FLAX))
def test_flax_trains_with(world_size: int, name: str, flax_runs: Runs, uncompressed: Run) -> None:
    _check(flax_runs[world_size, name], uncompressed, world_size, name)


def _check(run: Run, uncompressed: Run, world_size: int, name: str) -> None:
    assert run.communication is not None
    if name == "nothing is large enough" or (world_size == 2 and name in _NODES_OF_TWO):
        np.testing.assert_allclose(run.losses, uncompressed.losses, rtol=0, atol=LOSS_TOLERANCE)
        assert fraction_apart(run, uncompressed) < 1e-3
        # Only what is never compressed, in rows of whole words.
        assert 1.0 <= run.communication.ratio < 1.05
        return
    difference = np.abs(np.subtract(run.losses, uncompressed.losses))
    assert 0 < difference.max() < _LOSS_TOLERANCE
    # Most where blocks of 4096 are filled up: a rank's half of a matrix of 64x64 has 2048.
    assert 0.25 < run.communication.ratio < 0.38


@pytest.mark.parametrize("name", _NODES_OF_TWO)
def test_both_say_what_goes_between_nodes(name: str, torch_runs: Runs, flax_runs: Runs) -> None:
    reports = [runs[4, name].communication for runs in (torch_runs, flax_runs)]
    for report in reports:
        assert "within nodes of 2" in report.description
    assert reports[0].ratio == pytest.approx(reports[1].ratio, rel=0.02)
