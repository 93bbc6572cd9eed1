"""Running statistics come out of training the same, however a batch is cut and wherever it runs.

Each rank normalises each of its micro-batches by itself, and what is tracked is the mean over them:
so two ranks, two micro-batches of one rank, and both frameworks are the same run. The network has a
reversible stage, whose branches are run twice in a step, and weights that ZeRO partitions.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data.sources import digits
from models.flax import predict as flax_predict
from models.torch import predict as torch_predict
from models.weights import init_weights
from train.recipe import batch_of, training_batches
from train.testing.example import short_config
from train.testing.parity_runs import Run, assert_same_run, compile_once, run_flax, run_torch

# Takes effect until JAX starts. A run uses as many as it is told.
jax.config.update("jax_num_cpu_devices", 2)

NUM_STEPS, BATCH_SIZE, MOMENTUM = 3, 16, 0.25

_CONFIG: dict[str, Any] = {
    "image": {"height": 8, "width": 8, "num_channels": 1},
    "num_classes": 10,
    "stem": {"width": 4},
    "widths": [8],
    "depths": [3],
    "strides": [2],
    "norm": {"kind": "batch", "momentum": MOMENTUM},
    "block": {"dropout_rate": 0.1, "stochastic_depth_rate": 0.1},
    "expert_stages": [0],
    "mixture_of_experts": {"num_experts": 2, "top_k": 1, "load_balance_weight": 0.01, "every": 3},
    "reversible_stages": [0],
}


def _sections(micro_batches: int, **others: Any) -> dict[str, Any]:
    return {
        "model": {"architecture": "cnn", "config": _CONFIG},
        "data": {
            "global_batch_size": BATCH_SIZE,
            "gradient_accumulation_steps": micro_batches,
            "augment": None,
        },
        # Of weights that the next norm hardly sees, gradients are rounding, which an epsilon of
        # this size does not let grow to whole steps.
        "optimizer": {"name": "adamw", "adamw": {"learning_rate": 1e-2, "epsilon": 1e-2}},
        **others,
    }


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    compile_once(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def flax_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("run") / "flax"
    return run_flax(directory, num_steps=NUM_STEPS, **_sections(2))


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    cases = [_sections(2, zero={"stage": stage}) for stage in range(4)]
    return run_torch(tmp_path_factory.mktemp("torch"), 1, cases, num_steps=NUM_STEPS)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    cases = [_sections(1, zero={"stage": stage}) for stage in range(4)]
    return run_torch(tmp_path_factory.mktemp("torch"), 2, cases, num_steps=NUM_STEPS)


def test_flax_on_two_devices_is_the_same_run(flax_run: Run, tmp_path: Path) -> None:
    run = run_flax(tmp_path / "flax", world_size=2, num_steps=NUM_STEPS, **_sections(1))
    assert_same_run(run, flax_run)


@pytest.mark.parametrize("stage", range(4))
def test_deepspeed_with_micro_batches_follows_flax(
    flax_run: Run, one_rank: list[Run], stage: int
) -> None:
    assert_same_run(one_rank[stage], flax_run)


@pytest.mark.parametrize("stage", range(4))
def test_deepspeed_on_two_ranks_follows_flax(
    flax_run: Run, two_ranks: list[Run], stage: int
) -> None:
    assert_same_run(two_ranks[stage], flax_run)


def test_what_is_tracked_is_the_mean_over_the_parts_of_a_batch(tmp_path: Path) -> None:
    """Of the first norm after one step, which sees the stem's output, in PyTorch's own words."""
    config = short_config(num_steps=1, **_sections(2))
    inputs = batch_of(config, training_batches(config, digits.load().train), 0).inputs
    stem = torch.tensor(init_weights(config.model, config.run.seed)["stem.weight"])
    norm = torch.nn.BatchNorm2d(4, momentum=MOMENTUM)
    told = []
    for part in torch.tensor(inputs).permute(0, 3, 1, 2).chunk(2):
        norm.reset_running_stats()
        norm(F.conv2d(part, stem, padding=1))
        told.append((norm.running_mean.clone(), norm.running_var.clone()))
    run = run_flax(tmp_path / "flax", num_steps=1, **_sections(2))
    for name, parts in zip(("running_mean", "running_var"), zip(*told, strict=True), strict=True):
        ours = run.published.tensors[f"stages.0.0.conv.norms.0.{name}"]
        np.testing.assert_allclose(ours, (parts[0] + parts[1]) / 2, rtol=1e-5, atol=1e-6)


def test_what_one_framework_trained_the_other_predicts_with(
    flax_run: Run, one_rank: list[Run]
) -> None:
    model = short_config(num_steps=NUM_STEPS, **_sections(2)).model
    images = digits.load().test.inputs
    for run in (flax_run, one_rank[0]):
        of_flax, of_torch = (
            framework.predict_fn(model, run.published.tensors)(images)
            for framework in (flax_predict, torch_predict)
        )
        np.testing.assert_allclose(of_flax, of_torch, rtol=0, atol=1e-5)
        accuracy = np.mean(of_flax.argmax(axis=-1) == digits.load().test.targets)
        assert run.metrics["accuracy"] == pytest.approx(accuracy, abs=1e-9)
