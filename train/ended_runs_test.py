"""A run of a trainer that is ended from outside leaves what was saved and nothing else."""

import os
import re
import signal
from pathlib import Path

import pytest

from train.checkpoint.store import CheckpointStore
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
    # A rank that is killed, the first, tidies nothing up.
    assert not list(tmp_path.glob("runs/*/checkpoints"))


def test_a_rank_that_no_longer_runs_is_named(tmp_path: Path) -> None:
    config = config_file(tmp_path, num_steps=10**5)
    arguments = ("--nproc", 2, "--set", "callbacks.watch.hang_timeout_s=5")
    with trainer("torch", "--config", config, *arguments, cwd=tmp_path) as process:
        assert process.stdout.readline().startswith("step ")
        stopped = max(_ranks_of(process.pid))  # the last that was started, most likely
        os.kill(stopped, signal.SIGSTOP)
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert re.match(
        r"error: no rank has come any further for 5 s: rank [01] is missing, for which the others "
        r"wait; it does not run; all ranks were stopped$",
        stderr.splitlines()[0],
    )


@pytest.mark.parametrize(
    ("framework", "nproc", "number", "status"),
    [
        ("flax", 1, signal.SIGTERM, 0),
        ("flax", 1, signal.SIGHUP, 129),
        ("torch", 1, signal.SIGINT, 130),
        ("torch", 2, signal.SIGTERM, 0),
        ("torch", 2, signal.SIGINT, 130),
    ],
)
def test_a_signal_has_the_run_saved(
    framework: str, nproc: int, number: signal.Signals, status: int, tmp_path: Path
) -> None:
    config = config_file(tmp_path, num_steps=10**5)
    arguments = ("--config", config, "--nproc", nproc, "--output", "run")
    with trainer(framework, *arguments, cwd=tmp_path) as process:
        assert process.stdout.readline().startswith("step ")
        ranks = _ranks_of(process.pid)
        assert len(ranks) == (0 if nproc == 1 else nproc)
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        _, stderr = process.communicate()
    assert process.returncode == status
    asked, saved, where = stderr.splitlines()
    assert asked == "asked to end: finishing the step and saving; asked again, it ends at once"
    step = int(
        re.fullmatch(r"asked to end after ([\d,]+) of 100,000 steps, which are saved; .*", saved)[
            1
        ].replace(",", "")
    )
    assert where == f"  --output {tmp_path / 'run'}"
    assert CheckpointStore(tmp_path / "run" / "checkpoints").steps()[-1] == step
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


@pytest.mark.parametrize(("framework", "nproc"), [("flax", 1), ("torch", 2)])
def test_a_second_signal_ends_the_run_at_once(framework: str, nproc: int, tmp_path: Path) -> None:
    config = config_file(tmp_path, num_steps=10**5)
    with trainer(framework, "--config", config, "--nproc", nproc, cwd=tmp_path) as process:
        assert process.stdout.readline().startswith("step ")
        ranks = _ranks_of(process.pid)
        # Who is at work on a step hears the second before it could act on the first.
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        _, stderr = process.communicate()
    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert stderr.splitlines()[-1] == "interrupted: nothing half-written was left"
    assert sorted(path.name for path in tmp_path.iterdir()) in (
        ["run.yaml", "temporary"],
        ["run.yaml", "runs", "temporary"],
    )
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
