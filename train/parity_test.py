"""Both trainers, from one configuration, are the same run: equal losses, equal weights.

Each is the other's oracle, from the data to the published artifact. DeepSpeed is held to it at
every ZeRO stage, and both on any number of ranks. optimizer_parity_test.py does so for every
optimizer, compression_options_test.py for every way to compress.
"""

from pathlib import Path

import jax
import numpy as np
import pytest
from hpc.artifact.v1 import artifact_pb2

from data.sources import digits
from optim.sophia import Sophia
from train import train_torch
from train.events import Stopped
from train.testing.example import short_config
from train.testing.parity_runs import (
    LOSS_TOLERANCE,
    NUM_STEPS,
    Run,
    assert_same_run,
    compile_once,
    fraction_apart,
    run_flax,
    run_one,
    run_torch,
)

# Takes effect until JAX starts. A run uses as many as it is told.
jax.config.update("jax_num_cpu_devices", 2)

# Measured with 8-bit gradients: up to 8e-4 in 20 steps, in both frameworks.
COMPRESSED_LOSS_TOLERANCE = 4e-3

# int8 with a float32 scale a 256 values is 0.254; in this small model, one value in 35 is a bias or
# in a small tensor, which goes uncompressed.
MAX_RATIO = 0.29

_COMPRESSED = {"gradient_compression": {"enabled": True}}

# What PyTorch's two ranks do, one after the other.
_TWO_RANKS = {
    **{f"stage {i}": {"zero": {"stage": i}} for i in range(4)},
    **{f"stage {i}, compressed": {"zero": {"stage": i}, **_COMPRESSED} for i in range(4)},
    **{
        f"stage {i}, offloaded": {"zero": {"stage": i, "offload_optimizer": {"device": "cpu"}}}
        for i in (1, 2, 3)
    },
}


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    compile_once(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def flax_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_flax(tmp_path_factory.mktemp("run") / "flax")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    runs = run_torch(tmp_path_factory.mktemp("torch"), 2, list(_TWO_RANKS.values()))
    return dict(zip(_TWO_RANKS, runs, strict=True))


@pytest.fixture(scope="module")
def compressed_flax_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_flax(tmp_path_factory.mktemp("run") / "flax", world_size=2, **_COMPRESSED)


def _assert_compressed_run(run: Run, flax_run: Run) -> None:
    difference = np.abs(np.subtract(run.losses, flax_run.losses))
    assert difference.max() < COMPRESSED_LOSS_TOLERANCE
    assert difference.max() > 0  # something was compressed
    assert run.communication is not None
    assert 0.25 < run.communication.ratio < MAX_RATIO


def test_flax_on_two_devices_is_the_same_run(flax_run: Run, tmp_path: Path) -> None:
    run = run_flax(tmp_path / "flax", world_size=2)
    assert run.communication is None
    assert_same_run(run, flax_run)


def test_flax_with_compressed_gradients_stays_close(
    flax_run: Run, compressed_flax_run: Run
) -> None:
    _assert_compressed_run(compressed_flax_run, flax_run)


def test_flax_counts_what_it_sends_for_curvature(tmp_path: Path) -> None:
    run = run_flax(
        tmp_path / "flax",
        world_size=2,
        optimizer={"name": "sophia", "sophia": Sophia(curvature_every=3)},
        **_COMPRESSED,
    )
    assert run.communication is not None
    # Of two ranks each sends as many bytes as there are: half of them to be summed, half as sums.
    float32_bytes = sum(tensor.size * 4 for tensor in run.published.tensors.values())
    num_estimates = len(range(0, NUM_STEPS, 3))
    exchanges = NUM_STEPS + num_estimates
    uncompressed = NUM_STEPS * run.communication.bytes_per_step / run.communication.ratio
    assert uncompressed == pytest.approx(exchanges * float32_bytes, rel=1e-9)
    # All of the gradients in 8 bits, but none of the estimates.
    compressed = NUM_STEPS * run.communication.bytes_per_step - num_estimates * float32_bytes
    assert 0.25 < compressed / (NUM_STEPS * float32_bytes) < MAX_RATIO


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_alone_follows_flax(flax_run: Run, tmp_path: Path, stage: int) -> None:
    (run,) = run_torch(tmp_path, 1, [{"zero": {"stage": stage}}])
    assert run.communication is None
    assert_same_run(run, flax_run)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_on_two_ranks_follows_flax(
    flax_run: Run, two_ranks: dict[str, Run], stage: int
) -> None:
    run = two_ranks[f"stage {stage}"]
    assert run.communication is None
    assert_same_run(run, flax_run)


def _assert_stopped(run: Run, at: int) -> None:
    assert run.stopped == Stopped(at, NUM_STEPS, "enough")
    assert run.published.artifact.training_run.steps == at
    assert run.metrics == dict(run.published.artifact.metrics)


def test_ranks_that_the_program_starts_are_the_same_run_until_a_callback_stops_it(
    two_ranks: dict[str, Run], tmp_path: Path
) -> None:
    stop_at = NUM_STEPS - 2
    run = run_one(
        train_torch.train, tmp_path / "torch", world_size=2, zero={"stage": 2}, stop_at=stop_at
    )
    assert run.losses == two_ranks["stage 2"].losses[:stop_at]
    _assert_stopped(run, stop_at)


def test_a_callback_stops_flax(flax_run: Run, tmp_path: Path) -> None:
    run = run_flax(tmp_path / "flax", stop_at=3)
    assert flax_run.stopped is None
    assert run.losses == flax_run.losses[:3]
    _assert_stopped(run, 3)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_with_compressed_gradients_stays_close(
    flax_run: Run, two_ranks: dict[str, Run], stage: int
) -> None:
    _assert_compressed_run(two_ranks[f"stage {stage}, compressed"], flax_run)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_same_run_with_the_optimizer_offloaded(
    stage: int, flax_run: Run, two_ranks: dict[str, Run]
) -> None:
    run = two_ranks[f"stage {stage}, offloaded"]
    np.testing.assert_allclose(run.losses, flax_run.losses, rtol=0, atol=LOSS_TOLERANCE)
    assert fraction_apart(run, flax_run) == 0.0


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
    again = run_flax(tmp_path / "again")
    assert again.losses == flax_run.losses
    for name, tensor in flax_run.published.tensors.items():
        assert again.published.tensors[name].tobytes() == tensor.tobytes(), name


def test_another_seed_is_another_run(flax_run: Run, tmp_path: Path) -> None:
    other = run_flax(tmp_path / "other", run={"seed": 1})
    assert other.losses != flax_run.losses


def test_flax_with_accumulated_gradients_is_the_same_run(flax_run: Run, tmp_path: Path) -> None:
    data = {"gradient_accumulation_steps": 4}
    run = run_flax(tmp_path / "flax", world_size=2, data=data)
    assert_same_run(run, flax_run)


def test_gradients_are_clipped(flax_run: Run, tmp_path: Path) -> None:
    # To less than the epsilon that AdamW divides by.
    run = run_flax(tmp_path / "flax", optimizer={"max_grad_norm": 1e-12})
    assert flax_run.losses[-1] < 2.25
    assert run.losses[-1] > 2.30
