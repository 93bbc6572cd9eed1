"""A run's directory belongs to one run and one process, and nothing in it is lost."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from train.checkpoint.run_directory import (
    ARTIFACT,
    CHECKPOINTS,
    DESCRIPTION,
    RunDirectoryError,
    check_run_directory,
    claim,
)
from train.config.schema import TrainConfig
from train.testing.example import short_config


@pytest.fixture
def config() -> TrainConfig:
    return short_config(num_steps=10)


@pytest.fixture
def run(tmp_path: Path, config: TrainConfig) -> Path:
    """The directory of a run that has saved something."""
    with claim(tmp_path / "run", config, "flax") as place:
        place.checkpoints.path(5).mkdir(parents=True)
    return tmp_path / "run"


def test_what_was_made_for_nothing_is_removed(tmp_path: Path, config: TrainConfig) -> None:
    with claim(tmp_path / "a" / "b", config, "flax") as place:
        assert sorted(path.name for path in place.path.iterdir()) == ["lock", DESCRIPTION]
    assert list(tmp_path.iterdir()) == []


def test_what_was_saved_stays_and_goes_on(run: Path, config: TrainConfig) -> None:
    check_run_directory(run, config, "flax")
    with claim(run, config, "flax") as place:
        assert place.checkpoints.steps() == [5]
        first = place.started_at
    with claim(run, config, "flax") as place:
        assert place.started_at == first


def test_another_configuration_is_refused_by_its_keys(run: Path) -> None:
    other = short_config(num_steps=11, optimizer={"max_grad_norm": 1.0})
    for attempt in (check_run_directory, lambda *args: claim(*args).__enter__()):
        with pytest.raises(RunDirectoryError) as refused:
            attempt(run, other, "torch")
        message = str(refused.value)
        assert 'framework: "flax" there, "torch" here' in message
        assert "run.num_steps: 10 there, 11 here" in message
        assert "optimizer.max_grad_norm: null there, 1.0 here" in message
        assert "--fresh" in message


def test_what_learns_the_same_may_differ(run: Path) -> None:
    other = short_config(num_steps=10, log_every_steps=7, checkpoint={"every_steps": 3})
    check_run_directory(run, other, "flax")
    with claim(run, other, "flax") as place:
        assert place.checkpoints.steps() == [5]


def test_fresh_sets_aside_what_there_is(run: Path) -> None:
    (run / ARTIFACT).mkdir()
    (run / "notes").write_text("mine")
    other = short_config(num_steps=11)
    check_run_directory(run, other, "torch", fresh=True)
    with claim(run, other, "torch", fresh=True) as place:
        assert place.checkpoints.steps() == []
        place.checkpoints.path(1).mkdir(parents=True)
    assert (run / "notes").read_text() == "mine"
    [aside] = (run / "set-aside").iterdir()
    assert sorted(path.name for path in aside.iterdir()) == [ARTIFACT, CHECKPOINTS, DESCRIPTION]
    assert json.loads((aside / DESCRIPTION).read_text())["config"]["run"]["num_steps"] == 10


@pytest.mark.parametrize("num_moved", [1, 2])
def test_fresh_that_was_killed_half_way_is_done_by_the_same_command(
    run: Path, config: TrainConfig, num_moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / ARTIFACT).mkdir()
    rename, moved = Path.rename, list[Path]()

    def dying(path: Path, target: Path) -> Path:
        if len(moved) == num_moved:
            raise KeyboardInterrupt
        moved.append(path)
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", dying)
        with pytest.raises(KeyboardInterrupt), claim(run, config, "flax", fresh=True):
            pass
    check_run_directory(run, config, "flax", fresh=True)
    with claim(run, config, "flax", fresh=True) as place:
        assert not place.artifact.exists() and place.checkpoints.steps() == []
    aside = [path.name for part in (run / "set-aside").iterdir() for path in part.iterdir()]
    assert sorted(aside) == [ARTIFACT, CHECKPOINTS, DESCRIPTION]


def test_a_link_to_an_empty_directory_is_one(tmp_path: Path, config: TrainConfig) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    check_run_directory(tmp_path / "link", config, "flax")
    with claim(tmp_path / "link", config, "flax") as place:
        place.checkpoints.path(5).mkdir(parents=True)
    check_run_directory(tmp_path / "link", config, "flax")
    assert (tmp_path / "disk" / DESCRIPTION).exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_directory_of_something_else_is_refused(
    tmp_path: Path, config: TrainConfig, fresh: bool
) -> None:
    (tmp_path / "file").write_text("mine")
    for attempt in (check_run_directory, lambda *a, **o: claim(*a, **o).__enter__()):
        with pytest.raises(RunDirectoryError, match=r"it has file and no run\.json"):
            attempt(tmp_path, config, "flax", fresh=fresh)
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "set-aside").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "x"}', "\0"])
def test_a_damaged_description_is_refused(run: Path, config: TrainConfig, content: str) -> None:
    (run / DESCRIPTION).write_text(content)
    with pytest.raises(RunDirectoryError, match=r"run\.json is not of a run"):
        check_run_directory(run, config, "flax")


_CLAIMING = """
import sys
from pathlib import Path
from train.checkpoint.run_directory import claim
from train.testing.example import short_config
with claim(Path(sys.argv[1]), short_config(num_steps=10), "flax"):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_with_the_first_ones_name(
    tmp_path: Path, config: TrainConfig
) -> None:
    command = [sys.executable, "-c", _CLAIMING, str(tmp_path / "run")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "claimed\n"
        named = f"process {first.pid} on {platform.node()}"
        for attempt in (check_run_directory, lambda *args: claim(*args).__enter__()):
            with pytest.raises(RunDirectoryError, match=named):
                attempt(tmp_path / "run", config, "flax")
        first.kill()
    with claim(tmp_path / "run", config, "flax"):  # whose lock the system took away
        assert json.loads((tmp_path / "run" / "lock").read_text())["pid"] == os.getpid()
