"""Both trainers, from one configuration, are the same run: equal losses, equal weights.

Each is the other's oracle, from the data to the published artifact. DeepSpeed is held to it at
every ZeRO stage, and both on any number of ranks.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from hpc.artifact.v1 import artifact_pb2

from data import digits
from optim.sophia import Sophia
from registry.artifact import LoadedArtifact, load
from train import train_flax, train_torch
from train.callbacks import CommunicationReport, StepReport
from train.cli import Train
from train.example import short_config

# Takes effect until JAX starts. A run uses as many as it is told.
jax.config.update("jax_num_cpu_devices", 2)

NUM_STEPS = 20

# Losses of about 2 in float32 differ by a few rounding errors; measured: 3e-6 in 20 steps.
LOSS_TOLERANCE = 1e-5

# Weights of about 1, moved by up to 3e-3 a step. Measured: 5e-7 in 20 steps, at every ZeRO stage.
WEIGHT_TOLERANCE = 1e-5

# Measured with 8-bit gradients: up to 8e-4 in 20 steps, in both frameworks.
COMPRESSED_LOSS_TOLERANCE = 4e-3

# A step of these is a sign, at least at first. Where a gradient is 0 but for rounding, frameworks
# differ by a whole step; measured: in 1 of 1,200 weights on a Xeon and 1 of 470 on an EPYC, whose
# matrix products round otherwise, and by 1e-5 in the loss. One beta off by 0.01 moves a quarter of
# the weights or more, a rate off by 1% three quarters, and either the loss by 5e-4.
SIGNED = {"lion", "sophia"}
SIGNED_LOSS_TOLERANCE = 5e-5
MAX_SIGNS_APART = 1e-2

# int8 with a float32 scale a 256 values is 0.254; in this small model, one value in 40 is a bias or
# in a small tensor, which goes uncompressed.
MAX_RATIO = 0.29


# Less than the gradients of any step have.
MAX_GRAD_NORM = 0.5


class Run(NamedTuple):
    """What a run told and what it published."""

    losses: list[float]
    accuracies: list[float]
    clipped: list[float | None]
    metrics: Mapping[str, float]
    communication: CommunicationReport | None
    published: LoadedArtifact


class _Recorder:
    def __init__(self) -> None:
        self.reports: list[StepReport] = []
        self.metrics: Mapping[str, float] = {}
        self.communication: CommunicationReport | None = None

    def on_step(self, report: StepReport) -> None:
        self.reports.append(report)

    def on_evaluation(self, metrics: Mapping[str, float]) -> None:
        self.metrics = metrics

    def on_communication(self, report: CommunicationReport) -> None:
        self.communication = report


def _without_key_biases(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leaves out the middle third of each `qkv.bias`.

    A bias of the keys adds the same to all scores of a query, which softmax does not see. Its
    gradient is rounding and nothing else, and Adam scales that up to whole steps.
    """
    return {
        name: np.delete(tensor, np.s_[len(tensor) // 3 : 2 * len(tensor) // 3])
        if name.endswith("qkv.bias")
        else tensor
        for name, tensor in weights.items()
    }


def _run(
    train: Train, directory: Path, *, world_size: int = 1, **sections: dict[str, object]
) -> Run:
    recorder = _Recorder()
    config = short_config(num_steps=NUM_STEPS, **sections)
    train(config, directory, [recorder], world_size=world_size)
    return Run(
        losses=[report.loss for report in recorder.reports],
        accuracies=[report.accuracy for report in recorder.reports],
        clipped=[report.clipped_fraction for report in recorder.reports],
        metrics=recorder.metrics,
        communication=recorder.communication,
        published=load(directory),
    )


@pytest.fixture(scope="module")
def flax_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _run(train_flax.train, tmp_path_factory.mktemp("run") / "flax")


def _assert_same_run(run: Run, flax_run: Run) -> None:
    assert len(run.losses) == NUM_STEPS
    np.testing.assert_allclose(run.losses, flax_run.losses, rtol=0, atol=LOSS_TOLERANCE)
    np.testing.assert_allclose(run.accuracies, flax_run.accuracies, rtol=0, atol=1e-6)
    weights = _without_key_biases(run.published.tensors)
    for name, tensor in _without_key_biases(flax_run.published.tensors).items():
        np.testing.assert_allclose(
            weights[name], tensor, rtol=0, atol=WEIGHT_TOLERANCE, err_msg=name
        )


def _assert_compressed_run(run: Run, flax_run: Run) -> None:
    difference = np.abs(np.subtract(run.losses, flax_run.losses))
    assert difference.max() < COMPRESSED_LOSS_TOLERANCE
    assert difference.max() > 0  # something was compressed
    assert run.communication is not None
    assert 0.25 < run.communication.ratio < MAX_RATIO


def test_flax_on_two_devices_is_the_same_run(flax_run: Run, tmp_path: Path) -> None:
    run = _run(train_flax.train, tmp_path / "flax", world_size=2)
    assert run.communication is None
    _assert_same_run(run, flax_run)


def test_flax_with_compressed_gradients_stays_close(flax_run: Run, tmp_path: Path) -> None:
    run = _run(
        train_flax.train,
        tmp_path / "flax",
        world_size=2,
        gradient_compression={"enabled": True},
    )
    _assert_compressed_run(run, flax_run)


def test_flax_counts_what_it_sends_for_curvature(tmp_path: Path) -> None:
    run = _run(
        train_flax.train,
        tmp_path / "flax",
        world_size=2,
        gradient_compression={"enabled": True},
        optimizer={"name": "sophia", "sophia": Sophia(curvature_every=3)},
    )
    assert run.communication is not None
    # Of two ranks each sends as many bytes as there are: half of them to be summed, half as sums.
    float32_bytes = sum(tensor.size * 4 for tensor in run.published.tensors.values())
    exchanges = NUM_STEPS + 7  # in steps 0, 3, ..., 18
    uncompressed = NUM_STEPS * run.communication.bytes_per_step / run.communication.ratio
    assert uncompressed == pytest.approx(exchanges * float32_bytes, rel=1e-9)
    # All of the gradients in 8 bits, but none of the 7 estimates.
    compressed = NUM_STEPS * run.communication.bytes_per_step - 7 * float32_bytes
    assert 0.25 < compressed / (NUM_STEPS * float32_bytes) < MAX_RATIO


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_follows_flax(flax_run: Run, tmp_path: Path, stage: int, world_size: int) -> None:
    torch_run = _run(
        train_torch.train, tmp_path / "torch", world_size=world_size, zero={"stage": stage}
    )
    assert torch_run.communication is None
    _assert_same_run(torch_run, flax_run)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_with_compressed_gradients_stays_close(
    flax_run: Run, tmp_path: Path, stage: int
) -> None:
    torch_run = _run(
        train_torch.train,
        tmp_path / "torch",
        world_size=2,
        zero={"stage": stage},
        gradient_compression={"enabled": True},
    )
    _assert_compressed_run(torch_run, flax_run)


def test_training_learns(flax_run: Run) -> None:
    assert flax_run.losses[0] == pytest.approx(np.log(10), abs=1e-5)  # a zero head guesses evenly
    assert flax_run.losses[-1] < flax_run.losses[0]


def test_artifact_describes_the_run(flax_run: Run) -> None:
    config = short_config(num_steps=NUM_STEPS)
    artifact = flax_run.published.artifact
    run = artifact.training_run
    assert (artifact.name, artifact.version) == ("digits", "1.0.0")
    assert artifact.framework == artifact_pb2.FRAMEWORK_FLAX
    assert list(artifact.inputs[0].shape) == [-1, 8, 8, 1]
    assert list(artifact.outputs[0].shape) == [-1, 10]
    assert dict(artifact.metrics) == flax_run.metrics
    assert run.config_digest == config.digest
    assert run.data_digest == digits.load().digest
    assert (run.seed, run.steps) == (config.run.seed, NUM_STEPS)
    assert {"python", "jax", "flax", "optax", "numpy"} <= run.library_versions.keys()
    assert run.started_at.ToNanoseconds() < run.finished_at.ToNanoseconds()


def test_the_same_run_again_is_bitwise_equal(flax_run: Run, tmp_path: Path) -> None:
    again = _run(train_flax.train, tmp_path / "again")
    assert again.losses == flax_run.losses
    for name, tensor in flax_run.published.tensors.items():
        assert again.published.tensors[name].tobytes() == tensor.tobytes(), name


def test_another_seed_is_another_run(flax_run: Run, tmp_path: Path) -> None:
    other = _run(train_flax.train, tmp_path / "other", run={"seed": 1})
    assert other.losses != flax_run.losses


def test_flax_with_accumulated_gradients_is_the_same_run(flax_run: Run, tmp_path: Path) -> None:
    data = {"gradient_accumulation_steps": 4}
    run = _run(train_flax.train, tmp_path / "flax", world_size=2, data=data)
    _assert_same_run(run, flax_run)


def test_gradients_are_clipped(flax_run: Run, tmp_path: Path) -> None:
    # To less than the epsilon that AdamW divides by.
    run = _run(train_flax.train, tmp_path / "flax", optimizer={"max_grad_norm": 1e-12})
    assert flax_run.losses[-1] < 2.15
    assert run.losses[-1] > 2.25


@pytest.fixture(scope="module", params=["adabelief", "adan", "lion", "sophia"])
def optimizer_run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, object], Run]:
    directory = tmp_path_factory.mktemp("run") / "flax"
    section = {"name": request.param, "max_grad_norm": MAX_GRAD_NORM}
    return section, _run(train_flax.train, directory, optimizer=section)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_every_optimizer_is_the_same_run_under_zero(
    stage: int, optimizer_run: tuple[dict[str, object], Run], tmp_path: Path
) -> None:
    section, flax_run = optimizer_run
    name = section["name"]
    sections = {"optimizer": section, "zero": {"stage": stage}}
    sections["data"] = {"gradient_accumulation_steps": 2}
    world_size = 2 if stage else 1
    run = _run(train_torch.train, tmp_path / "torch", world_size=world_size, **sections)
    difference = np.abs(np.subtract(run.losses, flax_run.losses))
    assert difference.max() < (SIGNED_LOSS_TOLERANCE if name in SIGNED else LOSS_TOLERANCE)
    apart = _fraction_apart(run, flax_run)
    assert apart <= (MAX_SIGNS_APART if name in SIGNED else 0.0)
    assert [fraction is not None for fraction in run.clipped] == NUM_STEPS * [name == "sophia"]
    if name == "sophia":
        # Padding, of which ZeRO has some, is not clipped.
        np.testing.assert_allclose(run.clipped, flax_run.clipped, rtol=0, atol=2e-3)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_same_run_with_the_optimizer_offloaded(
    stage: int, flax_run: Run, tmp_path: Path
) -> None:
    zero = {"stage": stage, "offload_optimizer": True}
    run = _run(train_torch.train, tmp_path / "torch", world_size=2, zero=zero)
    np.testing.assert_allclose(run.losses, flax_run.losses, rtol=0, atol=LOSS_TOLERANCE)
    assert _fraction_apart(run, flax_run) == 0.0


def _fraction_apart(run: Run, other: Run) -> float:
    """Returns the fraction of all weights that differ by more than `WEIGHT_TOLERANCE`."""
    ours, theirs = (_without_key_biases(r.published.tensors) for r in (run, other))
    apart = [np.abs(ours[name] - theirs[name]) > WEIGHT_TOLERANCE for name in theirs]
    return float(np.mean(np.concatenate([tensor.ravel() for tensor in apart])))
