"""Runs of this network in both frameworks, and what each step of them told."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from comm.testing import ranks, zero_engines
from data.source import SOURCES
from models.architecture import ARCHITECTURES
from registry.artifact import load
from train import train_flax, train_torch
from train.checkpoint.run_directory import ARTIFACT
from train.config.schema import TrainConfig
from train.events import Evaluated, Event, Stepped
from train.testing.sower.network import SOWER
from train.testing.sower.source import WALKS

# Each process that runs it imports this.
ARCHITECTURES[SOWER.name] = SOWER
SOURCES[WALKS.name] = WALKS

NUM_STEPS = 6

# What a run told and published, to the bit.
Facts = Mapping[str, Any]


class Run(NamedTuple):
    """What a run told at each step, what it measured at the end, and the weights."""

    losses: list[float]
    metrics: list[Mapping[str, float]]
    evaluated: Mapping[str, float]
    weights: Mapping[str, np.ndarray]

    def column(self, name: str) -> list[float]:
        """Returns one metric at each step."""
        return [of_step[name] for of_step in self.metrics]


def sower_config(
    *, model: Mapping[str, Any] | None = None, **sections: Mapping[str, Any]
) -> TrainConfig:
    """Returns a run of a few steps, with `sections` updated by key and keys of the network."""
    content: dict[str, Any] = {
        "artifact": {"name": "sower", "version": "1.0.0"},
        "run": {"seed": 0, "num_steps": NUM_STEPS, "log_every_steps": 1},
        "model": {"architecture": SOWER.name, "config": dict(model or {})},
        "data": {"source": WALKS.name, "global_batch_size": 16},
        "task": "next_token",
        "optimizer": {"name": "adamw", "adamw": {"learning_rate": 0.02, "weight_decay": 0.5}},
        "schedule": {"kind": "warmup_linear", "warmup_steps": 0, "final_fraction": 0.5},
    }
    for section, changes in sections.items():
        content[section] = {**content.get(section, {}), **changes}
    return TrainConfig.model_validate(content)


class _Recorder:
    def __init__(self) -> None:
        self.reports: list[Stepped] = []
        self.evaluated: Mapping[str, float] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Stepped():
                self.reports.append(event)
            case Evaluated(metrics=metrics):
                self.evaluated = dict(metrics)

    def run(self, directory: Path) -> Run:
        return Run(
            losses=[report.loss for report in self.reports],
            metrics=[report.metrics for report in self.reports],
            evaluated=self.evaluated,
            weights=load(directory / ARTIFACT).tensors,
        )


def run_flax(directory: Path, config: TrainConfig, *, world_size: int = 1) -> Run:
    """Trains in Flax."""
    recorder = _Recorder()
    train_flax.train(config, directory, [recorder], world_size=world_size)
    return recorder.run(directory)


def run_torch(directory: Path, configs: Sequence[TrainConfig], *, world_size: int = 2) -> list[Run]:
    """Trains in PyTorch, one run after the other on the same ranks."""
    zero_engines.preload()
    contents = [config.model_dump() for config in configs]
    recorders = ranks.run(_train_all, world_size, directory, contents)[0]
    return [recorder.run(directory / str(i)) for i, recorder in enumerate(recorders)]


def _train_all(
    rank: int, world_size: int, directory: Path, contents: Sequence[Mapping[str, Any]]
) -> list[_Recorder]:
    os.environ["LOCAL_RANK"] = str(rank)  # DeepSpeed insists on it
    recorders = [_Recorder() for _ in contents]
    for i, (content, recorder) in enumerate(zip(contents, recorders, strict=True)):
        config = TrainConfig.model_validate(content)
        train_torch.train_rank(config, directory / str(i), [recorder] if rank == 0 else [])
    return recorders
