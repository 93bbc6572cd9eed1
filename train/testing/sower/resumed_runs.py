"""Runs that are asked to end on the way and started again, beside those that are not."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from base import interrupts
from comm.testing import ranks, zero_engines
from registry.artifact import load
from train import train_flax, train_torch
from train.checkpoint.run_directory import ARTIFACT
from train.checkpoint.suspension import Suspension
from train.cli import Train
from train.config.schema import TrainConfig
from train.events import Event, RolledBack, Stepped
from train.testing.sower.runs import Facts  # and has ranks know its network and source


class Pair(NamedTuple):
    """The same run, twice."""

    whole: Facts
    resumed: Facts


class _Recorder:
    """Notes losses, and asks the run to end after these steps."""

    def __init__(self, ends: Sequence[int] = ()):
        self._ends = set(ends)
        self.reports: dict[int, tuple[float, Mapping[str, float], float]] = {}
        self.rollbacks: list[RolledBack] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, RolledBack):
            self.rollbacks.append(event)
        if isinstance(event, Stepped):
            self.reports[event.step] = (event.loss, event.metrics, event.learning_rate)
            if event.step in self._ends:
                self._ends.remove(event.step)
                interrupts.ask(signal.SIGTERM)

    def facts(self, directory: Path) -> Facts:
        tensors = load(directory / ARTIFACT).tensors
        weights = {name: (array.shape, array.tobytes()) for name, array in tensors.items()}
        return {"reports": self.reports, "rollbacks": self.rollbacks, "weights": weights}


def pair(
    train: Train,
    config: TrainConfig,
    directory: Path,
    *,
    ends: Sequence[int] = (1, 4),
    world_size: int = 1,
) -> Pair:
    """Trains once as a whole, and once asked to end after each of these steps.

    Reports are to be of every step.
    """
    facts = []
    for name, at in (("whole", ()), ("resumed", ends)):
        recorder = _Recorder(at)
        for _ in at:
            end = train(config, directory / name, [recorder], world_size=world_size)
            assert isinstance(end, Suspension), end
            assert not isinstance(end.saved, str), end
        train(config, directory / name, [recorder], world_size=world_size)
        facts.append(recorder.facts(directory / name))
    return Pair(*facts)


def flax_pair(config: TrainConfig, directory: Path, **options: Any) -> Pair:
    """Trains in Flax."""
    return pair(train_flax.train, config, directory, **options)


def torch_pairs(
    configs: Sequence[TrainConfig], directory: Path, *, world_size: int = 2
) -> list[Pair]:
    """Trains in PyTorch, one run after the other on the same ranks."""
    zero_engines.preload()
    contents = [config.model_dump() for config in configs]
    return ranks.run(_train_all, world_size, contents, directory)[0]


def _train_all(
    rank: int, world_size: int, contents: Sequence[Mapping[str, Any]], directory: Path
) -> list[Pair]:
    os.environ["LOCAL_RANK"] = str(rank)  # DeepSpeed insists on it
    pairs = []
    for i, content in enumerate(contents):
        config = TrainConfig.model_validate(content)
        facts = []
        for name, ends in (("whole", ()), ("resumed", (1, 4))):
            recorder = _Recorder(ends)
            callbacks = [recorder] if rank == 0 else []
            for _ in range(len(ends) + 1):
                train_torch.train_rank(config, directory / str(i) / name, callbacks)
            if rank == 0:
                facts.append(recorder.facts(directory / str(i) / name))
        if rank == 0:
            pairs.append(Pair(*facts))
    return pairs
