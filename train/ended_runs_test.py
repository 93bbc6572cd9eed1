"""A run of a trainer that is ended from outside leaves nothing: no file, no process."""

import os
import signal
from pathlib import Path

import pytest

from train.testing.trainer_programs import MODULES, config_file, trainer


def test_a_killed_rank_ends_the_run(tmp_path: Path) -> None:
    config = config_file(tmp_path, num_steps=10**5)
    with trainer("torch", "--config", config, "--nproc", 2, cwd=tmp_path) as process:
        assert process.stdout.readline().startswith("step ")
        os.kill(max(_ranks_of(process.pid)), signal.SIGKILL)
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert stderr.startswith("error: rank ")
    assert "was killed by SIGKILL" in stderr.splitlines()[0]
    assert sorted(tmp_path.iterdir()) == [config, tmp_path / "temporary"]


@pytest.mark.parametrize(
    ("framework", "nproc", "number"),
    [
        ("flax", 1, signal.SIGHUP),
        ("torch", 2, signal.SIGINT),
    ],
)
def test_a_signal_ends_the_run_and_leaves_nothing(
    framework: str, nproc: int, number: signal.Signals, tmp_path: Path
) -> None:
    config = config_file(tmp_path, num_steps=10**5)
    with trainer(framework, "--config", config, "--nproc", nproc, cwd=tmp_path) as process:
        assert process.stdout.readline().startswith("step ")
        ranks = _ranks_of(process.pid)
        assert len(ranks) == (0 if nproc == 1 else nproc)
        os.killpg(process.pid, number)  # as a terminal does
        _, stderr = process.communicate()
    assert process.returncode == 128 + number
    assert stderr == "interrupted: nothing half-written was left\n"
    assert sorted(tmp_path.iterdir()) == [config, tmp_path / "temporary"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


# At the last step of publishing: the trainer is asked to end, and ends its ranks.
_ASKED_TO_END_WHILE_PUBLISHING = """
import multiprocessing, os, pathlib, signal, time

rename = pathlib.Path.rename

def rename_or_wait(path, target):
    if pathlib.Path(target).name != "artifact":
        return rename(path, target)
    assert pathlib.Path(path).is_dir()
    os.kill(multiprocessing.parent_process().pid, signal.SIGTERM)
    while True:
        time.sleep(1)

pathlib.Path.rename = rename_or_wait
"""


def test_a_signal_while_a_rank_publishes_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_file(tmp_path, num_steps=1)
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    (stubs / "sitecustomize.py").write_text(_ASKED_TO_END_WHILE_PUBLISHING)
    monkeypatch.setenv("PYTHONPATH", str(stubs), prepend=os.pathsep)
    arguments = ("--config", config, "--nproc", 2, "--output", "artifact")
    with trainer("torch", *arguments, cwd=tmp_path) as process:
        _, stderr = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert stderr == "interrupted: nothing half-written was left\n"
    assert sorted(tmp_path.iterdir()) == [config, stubs, tmp_path / "temporary"]


@pytest.mark.parametrize("framework", MODULES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_ends_the_run(
    framework: str, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    # In the place of the first library that a trainer imports.
    (stubs / "typer.py").write_text(f"import signal; signal.raise_signal({int(number)})")
    monkeypatch.setenv("PYTHONPATH", str(stubs), prepend=os.pathsep)
    with trainer(framework, "--config", "run.yaml", cwd=tmp_path) as process:
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (128 + number, "")
    assert stderr == "interrupted: nothing half-written was left\n"


def _ranks_of(parent: int) -> list[int]:
    """Process ids of the ranks that `parent` started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_child = f"\nPPid:\t{parent}\n" in (process / "status").read_text()
            if is_child and b"spawn_main" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # it ended meanwhile
            continue
    return found
