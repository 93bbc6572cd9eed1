"""A checkpoint that is not as it was written is named and never used; an older one is."""

import hashlib
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from base import interrupts
from registry.artifact import load
from train import train_flax, train_torch
from train.checkpoint.beginning import Beginning
from train.checkpoint.manifest import CheckpointError, verified_manifest
from train.checkpoint.run_directory import ARTIFACT, RunDirectoryError
from train.checkpoint.store import CheckpointStore
from train.cli import Train
from train.events import Event, Resumed, Saved, Stepped, Warned
from train.testing.sower.runs import sower_config

TRAINERS: dict[str, Train] = {"flax": train_flax.train, "torch": train_torch.train}

_CONFIG = sower_config(checkpoint={"every_steps": 2}, zero={"stage": 2})
_ENDED_AT = 5
_FLIPS = 20


class Ended(NamedTuple):
    """A run that was asked to end, with checkpoints of steps 4 and 5, and what a whole one gave."""

    train: Train
    directory: Path
    weights: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=TRAINERS)
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    train, directory = TRAINERS[request.param], tmp_path_factory.mktemp(request.param)

    def end(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == _ENDED_AT:
            interrupts.ask(signal.SIGTERM)

    train(_CONFIG, directory / "ended", [end])
    train(_CONFIG, directory / "whole")
    return Ended(train, directory / "ended", dict(load(directory / "whole" / ARTIFACT).tensors))


@contextmanager
def _changed(path: Path, change: Callable[[bytes], bytes]) -> Iterator[None]:
    content = path.read_bytes()
    path.write_bytes(change(content))
    yield
    path.write_bytes(content)


def _store(run: Path) -> CheckpointStore:
    return CheckpointStore(run / "checkpoints")


def _cut(path: Path, left: float) -> Callable[[bytes], bytes]:
    size = path.stat().st_size
    return lambda content: content[: min(int(left * size), size - 1)]


def _files(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.rglob("*")) if path.is_file()]


def _flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]


def _assert_named(directory: Path, path: Path) -> None:
    with pytest.raises(CheckpointError, match="manifest" if "manifest" in path.name else path.name):
        verified_manifest(directory)


def test_the_newest_are_kept(ended: Ended) -> None:
    assert _store(ended.directory).steps() == [4, 5]
    assert verified_manifest(_store(ended.directory).path(5)).step == 5


def test_every_changed_byte_is_found_in_every_file(ended: Ended) -> None:
    directory = _store(ended.directory).path(5)
    rng = np.random.default_rng(0)
    for path in _files(directory):
        size = path.stat().st_size
        for at in rng.integers(0, size, _FLIPS) if size else ():
            with _changed(path, lambda content, at=int(at): _flip(content, at)):
                _assert_named(directory, path)
    verified_manifest(directory)


@pytest.mark.parametrize("left", [0.0, 0.5, 1.0])
def test_every_truncated_file_is_found(ended: Ended, left: float) -> None:
    directory = _store(ended.directory).path(5)
    for path in _files(directory):
        if path.stat().st_size:
            with _changed(path, _cut(path, left)):
                _assert_named(directory, path)


def test_missing_and_added_files_are_found(ended: Ended) -> None:
    directory = _store(ended.directory).path(5)
    for path in _files(directory):
        moved = path.rename(ended.directory / "moved")
        _assert_named(directory, path)
        moved.rename(path)
    (added := directory / "state" / "added").touch()
    _assert_named(directory, added)
    added.unlink()
    added.symlink_to(ended.directory, target_is_directory=True)
    _assert_named(directory, added)
    added.unlink()
    verified_manifest(directory)


def test_the_newest_good_one_is_used(ended: Ended, tmp_path: Path) -> None:
    run = Path(shutil.copytree(ended.directory, tmp_path / "run"))
    damaged = max(_files(_store(run).path(5) / "state"), key=lambda path: path.stat().st_size)
    damaged.write_bytes(_flip(damaged.read_bytes(), damaged.stat().st_size // 2))
    events: list[Event] = []
    ended.train(_CONFIG, run, [events.append])
    warned, resumed = (event for event in events if isinstance(event, Warned | Resumed))
    assert isinstance(warned, Warned)
    assert warned.message.startswith(f"{damaged} was changed")
    assert isinstance(resumed, Resumed)
    assert resumed.step == 4
    assert len(list(_store(run).directory.glob("damaged-*"))) == 1
    for name, tensor in load(run / ARTIFACT).tensors.items():
        np.testing.assert_array_equal(tensor, ended.weights[name])


def test_without_a_good_one_it_begins_again(ended: Ended, tmp_path: Path) -> None:
    run = Path(shutil.copytree(ended.directory, tmp_path / "run"))
    for step in (4, 5):
        (_store(run).path(step) / "manifest.json").unlink()
    events: list[Event] = []
    ended.train(_CONFIG, run, [events.append])
    warned_or_stepped = [event for event in events if isinstance(event, Warned | Stepped)]
    assert [type(event) for event in warned_or_stepped[:3]] == [Warned, Warned, Stepped]
    assert isinstance(first := warned_or_stepped[2], Stepped)
    assert first.step == 1
    for name, tensor in load(run / ARTIFACT).tensors.items():
        np.testing.assert_array_equal(tensor, ended.weights[name])


def test_what_a_killed_process_left_is_swept_away(ended: Ended, tmp_path: Path) -> None:
    run = Path(shutil.copytree(ended.directory, tmp_path / "run"))
    shutil.copytree(_store(run).path(4), _store(run).unfinished(6))
    events: list[Event] = []
    ended.train(_CONFIG, run, [events.append])
    assert [event.step for event in events if isinstance(event, Saved)] == []
    assert not _store(run).unfinished(6).exists()


def _rewrite(checkpoint: Path, **changes: object) -> None:
    """Changes a manifest as whoever wrote it might have written it."""
    path = checkpoint / "manifest.json"
    content = json.dumps(json.loads(path.read_text()) | changes).encode()
    path.write_bytes(content)
    (checkpoint / "manifest.sha256").write_text(
        f"{hashlib.sha256(content).hexdigest()}  manifest.json\n"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 1}, "is of format 1, and this program reads 2"),
        ({"data_digest": "f" * 64}, f'data_digest: "{"f" * 64}" there, '),
        ({"framework": "other"}, 'framework: "other" there, '),
        (
            {"config": {}},
            'artifact: nothing there, {"name": "sower", "version": "1.0.0", "programs": []} here',
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_and_left(
    ended: Ended, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    run = Path(shutil.copytree(ended.directory, tmp_path / "run"))
    _rewrite(_store(run).path(5), **changes)
    with pytest.raises(RunDirectoryError) as refused:
        ended.train(_CONFIG, run)
    assert message in str(refused.value)
    assert _store(run).steps() == [4, 5]


def test_going_on_from_an_earlier_step_sets_aside_what_came_later(
    ended: Ended, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(ended.directory, tmp_path / "run"))
    ended.train(_CONFIG, run)
    with pytest.raises(
        RunDirectoryError, match="--from-step 3: .*; there are checkpoints of: 4, 5"
    ):
        ended.train(_CONFIG, run, beginning=Beginning(from_step=3))
    assert _store(run).steps() == [4, 5]
    load(run / ARTIFACT)
    events: list[Event] = []
    ended.train(_CONFIG, run, [events.append], beginning=Beginning(from_step=4))
    assert [event.step for event in events if isinstance(event, Resumed)] == [4]
    assert [event.step for event in events if isinstance(event, Stepped)] == [5, 6]
    assert len(list(_store(run).directory.glob("left-step-*"))) == 1
    [aside] = (run / "set-aside").iterdir()
    for directory in (aside, run):
        for name, tensor in load(directory / ARTIFACT).tensors.items():
            np.testing.assert_array_equal(tensor, ended.weights[name])
