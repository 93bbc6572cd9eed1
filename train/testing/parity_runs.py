"""Short runs of both trainers, for tests that hold one to the other.

Starting ranks and compiling programs takes longer than these runs do. So all of PyTorch's that
have as many ranks share one set of processes, and JAX compiles equal programs once.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from comm.testing import ranks, zero_engines
from registry.artifact import LoadedArtifact, load
from train import train_flax, train_torch
from train.checkpoint.run_directory import ARTIFACT
from train.cli import Train
from train.events import Action, Communicated, Evaluated, Event, Stepped, Stop, Stopped
from train.testing.example import short_config

NUM_STEPS = 12

# Losses of about 2 in float32 differ by a few rounding errors; measured: 3e-6 in 20 steps.
LOSS_TOLERANCE = 1e-5

# Weights of about 1, moved by up to 3e-3 a step. Measured: 5e-7 in 20 steps, at every ZeRO stage.
WEIGHT_TOLERANCE = 1e-5

# What differs from the preset, by section.
Sections = Mapping[str, Any]


class Run(NamedTuple):
    """What a run told and what it published."""

    losses: list[float]
    accuracies: list[float]
    clipped: list[float | None]
    stopped: Stopped | None
    metrics: Mapping[str, float]
    communication: Communicated | None
    published: LoadedArtifact


class _Recorder:
    def __init__(self) -> None:
        self.reports: list[Stepped] = []
        self.stopped: Stopped | None = None
        self.metrics: Mapping[str, float] = {}
        self.communication: Communicated | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case Stepped():
                self.reports.append(event)
            case Stopped():
                self.stopped = event
            case Evaluated(metrics=metrics):
                self.metrics = dict(metrics)
            case Communicated():
                self.communication = event

    def run(self, directory: Path) -> Run:
        """Returns what was recorded, and what lies in the directory."""
        return Run(
            losses=[report.loss for report in self.reports],
            accuracies=[report.metrics["accuracy"] for report in self.reports],
            clipped=[report.fractions.get("clipped") for report in self.reports],
            stopped=self.stopped,
            metrics=self.metrics,
            communication=self.communication,
            published=load(directory / ARTIFACT),
        )


def compile_once(folder: Path) -> None:
    """Has JAX compile in less time, and keep programs in a folder for whoever asks again."""
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def run_one(
    train: Train,
    directory: Path,
    *,
    world_size: int = 1,
    num_steps: int = NUM_STEPS,
    stop_at: int | None = None,
    **sections: Any,
) -> Run:
    """Trains as the program does; until a callback stops it after `stop_at` steps, if given."""
    recorder = _Recorder()
    config = short_config(num_steps=num_steps, **sections)

    def stop(event: Event) -> Action | None:
        return Stop("enough") if isinstance(event, Stepped) and event.step == stop_at else None

    train(config, directory, [recorder, stop], world_size=world_size)
    return recorder.run(directory)


def run_flax(directory: Path, *, world_size: int = 1, **options: Any) -> Run:
    """Trains in Flax."""
    return run_one(train_flax.train, directory, world_size=world_size, **options)


def run_torch(
    directory: Path, world_size: int, cases: Sequence[Sections], *, num_steps: int = NUM_STEPS
) -> list[Run]:
    """Trains in PyTorch, one case after another, on the same ranks."""
    if world_size == 1:
        return [
            run_one(train_torch.train, directory / str(i), num_steps=num_steps, **case)
            for i, case in enumerate(cases)
        ]
    zero_engines.preload()
    recorders = ranks.run(_train_all, world_size, directory, cases, num_steps)[0]
    return [recorder.run(directory / str(i)) for i, recorder in enumerate(recorders)]


def _train_all(
    rank: int, world_size: int, directory: Path, cases: Sequence[Sections], num_steps: int
) -> list[_Recorder]:
    os.environ["LOCAL_RANK"] = str(rank)  # DeepSpeed insists on it
    recorders = [_Recorder() for _ in cases]
    for i, (case, recorder) in enumerate(zip(cases, recorders, strict=True)):
        callbacks = [recorder] if rank == 0 else []
        config = short_config(num_steps=num_steps, **case)
        train_torch.train_rank(config, directory / str(i), callbacks)
    return recorders


def assert_same_run(run: Run, other: Run) -> None:
    """Checks that two runs differ by rounding only."""
    assert len(run.losses) == len(other.losses)
    np.testing.assert_allclose(run.losses, other.losses, rtol=0, atol=LOSS_TOLERANCE)
    np.testing.assert_allclose(run.accuracies, other.accuracies, rtol=0, atol=1e-6)
    weights = _without_key_biases(run.published.tensors)
    for name, tensor in _without_key_biases(other.published.tensors).items():
        np.testing.assert_allclose(
            weights[name], tensor, rtol=0, atol=WEIGHT_TOLERANCE, err_msg=name
        )


def fraction_apart(run: Run, other: Run) -> float:
    """Returns the fraction of all weights that differ by more than `WEIGHT_TOLERANCE`."""
    ours, theirs = (_without_key_biases(r.published.tensors) for r in (run, other))
    apart = [np.abs(ours[name] - theirs[name]) > WEIGHT_TOLERANCE for name in theirs]
    return float(np.mean(np.concatenate([tensor.ravel() for tensor in apart])))


def _without_key_biases(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leaves out the biases of keys.

    Such a bias adds the same to all scores of a query, which softmax does not see. Its gradient is
    rounding and nothing else, and Adam scales that up to whole steps.
    """
    return {
        name: tensor for name, tensor in weights.items() if not name.endswith(".mixer.key.bias")
    }
