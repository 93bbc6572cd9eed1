"""A save that the disk does not take costs nothing but itself."""

import errno
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from comm.testing import ranks, zero_engines
from registry.artifact import load
from train import train_flax, train_torch
from train.checkpoint.run_directory import ARTIFACT
from train.checkpoint.store import CheckpointStore
from train.config.schema import TrainConfig
from train.events import Event, Saved, SaveFailed, Warned
from train.testing.sower import runs

_EVERY_STEPS = 2


def _limit_files(size_bytes: int) -> None:
    """Has the system refuse to write more into any one file; a disk that is full does alike."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))


class _Disk:
    """Notes saves, and has the disk full for the second of them."""

    def __init__(self) -> None:
        self.saves: list[Saved | SaveFailed] = []

    def __call__(self, event: Event) -> None:
        match event:
            case SaveFailed():
                _limit_files(resource.RLIM_INFINITY)
                self.saves.append(event)
            case Saved():
                self.saves.append(event)
                if event.step == _EVERY_STEPS:
                    _limit_files(500)


def _config(**sections: dict[str, object]) -> TrainConfig:
    return runs.sower_config(
        run={"num_steps": 8},
        checkpoint={"every_steps": _EVERY_STEPS, "keep_last": 5},
        **sections,
    )


def _assert_one_failed(saves: list[Saved | SaveFailed], run: Path) -> None:
    assert [(type(save), save.step) for save in saves] == [
        (Saved, 2),
        (SaveFailed, 4),
        (Saved, 6),
    ]
    assert "too large" in saves[1].reason.lower()
    store = CheckpointStore(run / "checkpoints")
    assert store.steps() == [2, 6]
    assert sorted(path.name for path in store.directory.iterdir()) == [
        store.path(step).name for step in store.steps()
    ]
    for step in store.steps():
        store.verified(step)
    load(run / ARTIFACT)


@pytest.mark.parametrize("train", [train_flax.train, train_torch.train])
def test_on_one_rank(train: Callable[..., object], tmp_path: Path) -> None:
    disk = _Disk()
    train(_config(), tmp_path / "run", [disk])
    _assert_one_failed(disk.saves, tmp_path / "run")


def _train_rank(
    rank: int, world_size: int, content: dict[str, object], directory: Path
) -> list[Saved | SaveFailed]:
    disk = _Disk()
    config = TrainConfig.model_validate(content)
    train_torch.train_rank(config, directory, [disk] if rank == 0 else [])
    return disk.saves


def test_on_one_of_several_ranks(tmp_path: Path) -> None:
    zero_engines.preload()
    content = _config(zero={"stage": 2}).model_dump()
    saves = ranks.run(_train_rank, 2, content, tmp_path / "run")
    _assert_one_failed(saves[0], tmp_path / "run")


def test_an_old_checkpoint_that_cannot_be_removed_is_told_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(CheckpointStore, "prune", fail)
    heard: list[Event] = []
    train_flax.train(_config(), tmp_path / "run", [heard.append])
    assert CheckpointStore(tmp_path / "run" / "checkpoints").steps() == [2, 4, 6]
    warned = [event.message for event in heard if isinstance(event, Warned)]
    assert warned == 3 * [
        "checkpoints that are not to stay were not removed: Operation not permitted"
    ]
