"""A step is the same in both frameworks, under every stage of ZeRO, whatever a run asks of it.

Of a network that uses all that it is given and sows all that it may, on targets of which another
number counts in each micro-batch of each rank.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from models.testing.parity import Record, apart
from optim.sophia import Sophia
from train.config.schema import TrainConfig
from train.testing.sower.runs import Run, run_flax, run_torch, sower_config

# Takes effect until JAX starts.
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_disable_most_optimizations", True)

# Losses of about 3 and weights of about 1 in float32. Measured: 4e-7 and 8e-7.
TOLERANCE = 1e-5

# Activations of 11 (float16) or 8 (bfloat16) bits, rounded elsewhere by each framework: measured
# 3e-4 and 1.4e-3, and 2e-3 with 8-bit gradients. Sophia divides rounding by a curvature near 0:
# 8e-5.
ROUGH_TOLERANCE = 1e-2

_MICRO_BATCHES = {"gradient_accumulation_steps": 2}
_DROPS = {"dropout_rate": 0.3, "stochastic_depth_rate": 0.2}
# The first steps overflow whatever the batch; later on some do.
_FLOAT16 = {
    "dtype": "float16",
    "loss_scaling": {"initial_scale": 2.0**24, "growth_interval": 2, "hysteresis": 2},
}
_COMPRESSED = {"enabled": True, "min_size": 16}

_EXACT: dict[str, dict[str, Any]] = {
    "sown": {"data": _MICRO_BATCHES},
    "norm clipped": {
        "optimizer": {"max_grad_norm": 0.05},
        "data": _MICRO_BATCHES,
        "callbacks": {"watch": {"gradient_norm": True}},
    },
    "checkpointed": {"memory": {"checkpointing": "full"}, "model": _DROPS},
    "attention kept": {"memory": {"checkpointing": "attention"}, "model": _DROPS},
    "averaged, values clipped": {
        "ema": {"decay": 0.7},
        "optimizer": {"max_grad_value": 0.01},
        "data": _MICRO_BATCHES,
    },
    "regularized less and less": {
        "regularization": {
            "dropout": {"shape": "linear", "initial": 1.0, "final": 0.2},
            "stochastic_depth": {"shape": "step", "final": 0.0},
            "weight_decay": {"shape": "cosine", "initial": 0.1, "begin": 0.2, "end": 0.8},
        },
        "model": _DROPS,
    },
}
_ROUGH: dict[str, dict[str, Any]] = {
    "curvature": {
        "optimizer": {"name": "sophia", "sophia": Sophia(learning_rate=0.01, curvature_every=2)},
        "data": _MICRO_BATCHES,
    },
    "spikes skipped": {
        "callbacks": {
            "watch": {
                "gradient_norm": True,
                "on_spike": "skip",
                "window_steps": 2,
                "spike_deviations": 0.01,
            }
        },
        "data": _MICRO_BATCHES,
        "optimizer": {"adamw": {"learning_rate": 0.1}},
        "run": {"num_steps": 12},
    },
    "bfloat16": {"precision": {"dtype": "bfloat16"}, "data": _MICRO_BATCHES},
    "float16": {"precision": _FLOAT16, "data": _MICRO_BATCHES, "run": {"num_steps": 12}},
    "float16, clipped": {
        "precision": _FLOAT16,
        "optimizer": {"max_grad_norm": 0.5},
        "run": {"num_steps": 12},
    },
    "float16, compressed, values clipped": {
        "precision": _FLOAT16,
        "gradient_compression": _COMPRESSED,
        "optimizer": {"max_grad_value": 0.01},
        "run": {"num_steps": 12},
    },
    "float16, curvature": {
        "precision": _FLOAT16,
        "optimizer": {"name": "sophia", "sophia": Sophia(learning_rate=0.01, curvature_every=3)},
        "run": {"num_steps": 12},
    },
}
_CASES = _EXACT | _ROUGH

# All stages of what has to do with how ZeRO handles gradients or weights.
_STAGES = {
    "sown": (0, 1, 2, 3),
    "norm clipped": (0, 1, 2, 3),
    "spikes skipped": (0, 1, 2, 3),
    "checkpointed": (0, 3),
    "attention kept": (3,),
    "averaged, values clipped": (0, 1, 2, 3),
    "regularized less and less": (0, 2, 3),
    "curvature": (0, 3),
    "bfloat16": (2,),
    "float16": (0, 1, 2, 3),
    "float16, clipped": (0, 1, 2, 3),
    "float16, compressed, values clipped": (0, 1, 2, 3),
    "float16, curvature": (1, 3),
}
_RUNS = [(name, stage) for name, stages in _STAGES.items() for stage in stages]


def _config(name: str, **more: Any) -> TrainConfig:
    return sower_config(**_CASES[name], **more)


@pytest.fixture(scope="module")
def flax_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    directory = tmp_path_factory.mktemp("flax")
    return {name: run_flax(directory / name, _config(name), world_size=2) for name in _CASES}


@pytest.fixture(scope="module")
def torch_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Run]:
    configs = [_config(name, zero={"stage": stage}) for name, stage in _RUNS]
    runs = run_torch(tmp_path_factory.mktemp("torch"), configs, world_size=2)
    return dict(zip(_RUNS, runs, strict=True))


def _assert_same(run: Run, other: Run, tolerance: float, record: Record | None = None) -> None:
    np.testing.assert_allclose(run.losses, other.losses, rtol=0, atol=tolerance)
    if record is not None:
        record("losses", apart(np.abs(np.subtract(run.losses, other.losses)).max(), tolerance))
    assert run.metrics[0].keys() == other.metrics[0].keys()
    for name in other.metrics[0]:
        if name != "accuracy" or tolerance == TOLERANCE:
            np.testing.assert_allclose(
                run.column(name), other.column(name), rtol=0, atol=tolerance, err_msg=name
            )


@pytest.mark.parametrize(("name", "stage"), [run for run in _RUNS if run[0] in _EXACT])
def test_deepspeed_follows_flax(
    flax_runs: dict[str, Run],
    torch_runs: dict[tuple[str, int], Run],
    name: str,
    stage: int,
    record_property: Record,
) -> None:
    run, flax_run = torch_runs[name, stage], flax_runs[name]
    assert {"size", "spread"} <= flax_run.metrics[0].keys()
    _assert_same(run, flax_run, TOLERANCE, record_property)
    for key, tensor in flax_run.weights.items():
        np.testing.assert_allclose(run.weights[key], tensor, rtol=0, atol=TOLERANCE, err_msg=key)
    assert run.evaluated == pytest.approx(flax_run.evaluated, abs=TOLERANCE)


@pytest.mark.parametrize(("name", "stage"), [run for run in _RUNS if run[0] in _ROUGH])
def test_deepspeed_follows_flax_and_skips_the_same_steps(
    flax_runs: dict[str, Run],
    torch_runs: dict[tuple[str, int], Run],
    name: str,
    stage: int,
    record_property: Record,
) -> None:
    run, flax_run = torch_runs[name, stage], flax_runs[name]
    _assert_same(run, flax_run, ROUGH_TOLERANCE, record_property)
    for column in {"skipped", "loss_scale"} & flax_run.metrics[0].keys():
        assert len(set(flax_run.column(column))) > 1
        assert run.column(column) == flax_run.column(column)
    assert ("skipped" in flax_run.metrics[0]) == (name.startswith("float16") or "spikes" in name)
    # Weights stay float32.
    assert {tensor.dtype.name for tensor in run.weights.values()} == {"float32"}


def test_a_mean_over_tokens_does_not_depend_on_how_the_batch_is_cut(
    flax_runs: dict[str, Run], tmp_path: Path
) -> None:
    whole = run_flax(tmp_path / "whole", sower_config())
    for name in ("accuracy", "bits_per_token"):
        np.testing.assert_allclose(
            flax_runs["sown"].column(name), whole.column(name), rtol=0, atol=TOLERANCE
        )
    np.testing.assert_allclose(flax_runs["sown"].losses, whole.losses, rtol=0, atol=TOLERANCE)


def test_checkpointing_changes_nothing(flax_runs: dict[str, Run], tmp_path: Path) -> None:
    plain = run_flax(tmp_path / "plain", sower_config(model=_DROPS), world_size=2)
    for name in ("checkpointed", "attention kept"):
        _assert_same(flax_runs[name], plain, TOLERANCE)


@pytest.mark.parametrize(
    ("scheduled", "fixed"),
    [
        (
            {
                "regularization": {
                    "dropout": {"initial": 0.5},
                    "stochastic_depth": {"initial": 0.0},
                    "weight_decay": {"initial": 0.25},
                },
                "model": {"dropout_rate": 0.4, "stochastic_depth_rate": 0.3},
                "optimizer": {"adamw": {"learning_rate": 0.02, "weight_decay": 0.8}},
            },
            {
                "model": {"dropout_rate": 0.2},
                "optimizer": {"adamw": {"learning_rate": 0.02, "weight_decay": 0.2}},
            },
        ),
        (
            {"regularization": {"weight_decay": {"shape": "step", "final": 0.0, "end": 0.0}}},
            {"optimizer": {"adamw": {"learning_rate": 0.02}}},
        ),
    ],
)
def test_a_factor_is_one_of_the_rate_that_is_configured(
    scheduled: dict[str, Any], fixed: dict[str, Any], tmp_path: Path
) -> None:
    runs = [
        run_flax(tmp_path / str(i), sower_config(**sections))
        for i, sections in enumerate((scheduled, fixed))
    ]
    _assert_same(*runs, TOLERANCE)
    for key, tensor in runs[1].weights.items():
        np.testing.assert_allclose(runs[0].weights[key], tensor, rtol=0, atol=TOLERANCE)
