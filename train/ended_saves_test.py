"""A run that is ended from outside while it saves has that save or the one before, and goes on."""

import shutil
import signal
from pathlib import Path

import pytest

from train.checkpoint.store import CheckpointStore
from train.testing.trainer_programs import MODULES, config_file, run

# The process is asked to end when its first checkpoint is about to get its name.
_ASKED_TO_END = """
import os, pathlib, signal, time

rename, asked = pathlib.Path.rename, []

def ask_and_rename(path, target):
    if pathlib.Path(target).name.startswith("step-") and not asked:
        asked.append(True)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
    return rename(path, target)

pathlib.Path.rename = ask_and_rename
"""

# The second rank is killed before it writes its part of the second checkpoint.
_KILLED = """
import os, pathlib, signal

write_bytes = pathlib.Path.write_bytes

def die_or_write(path, content):
    if "step-000000000004" in str(path) and "pp_rank_1" in path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return write_bytes(path, content)

pathlib.Path.write_bytes = die_or_write
"""

_EVERY_STEPS = ("--set", "checkpoint.every_steps=2")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "run" / "checkpoints").iterdir())


def _customize(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has Python run this first in every process."""
    stubs = folder / "stubs"
    stubs.mkdir()
    (stubs / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(stubs), prepend=":")


@pytest.mark.parametrize("framework", MODULES)
def test_a_signal_during_a_save_costs_neither_it_nor_the_last_one(
    framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _customize(tmp_path, _ASKED_TO_END, monkeypatch)
    config = config_file(tmp_path, num_steps=10**5)
    arguments = ("--config", config, *_EVERY_STEPS, "--output", "run")
    status, _, stderr = run(framework, *arguments, cwd=tmp_path)
    assert status == 0
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    *_, last = store.steps()
    assert last > 2
    assert f"asked to end after {last} of 100,000 steps, which are saved" in stderr
    assert _names(tmp_path) == [store.path(step).name for step in store.steps()]
    for step in store.steps():
        store.verified(step)


def test_a_rank_that_dies_during_a_save_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_file(tmp_path, num_steps=6)
    arguments = ("--config", config, *_EVERY_STEPS, "--output", "run", "--nproc", 2)
    arguments += ("--set", "zero.stage=1")  # each rank writes a part
    with monkeypatch.context() as patched:
        _customize(tmp_path, _KILLED, patched)
        status, _, stderr = run("torch", *arguments, cwd=tmp_path)
    assert status == 1
    assert f"was killed by {signal.SIGKILL.name}" in stderr.splitlines()[0]
    # The other rank removes what there is of it, if it is not ended before it comes to that.
    assert set(_names(tmp_path)) - {".partial-step-000000000004"} == {"step-000000000002"}
    shutil.rmtree(tmp_path / "temporary")
    status, stdout, stderr = run("torch", *arguments, cwd=tmp_path)
    assert (status, stderr) == (0, "")
    assert stdout.startswith("goes on after 2 steps, from ")
    assert _names(tmp_path) == ["step-000000000002", "step-000000000004"]
    assert (tmp_path / "run" / "artifact").is_dir()
