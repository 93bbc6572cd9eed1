"""A disk that fills up, and one that is read-only: what a run says then, and what it keeps.

On file systems that are mounted for a test alone, in user namespaces. Where the system has none,
through a limit on the size of files, and in a place in which nobody can make any.
"""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from registry.artifact import load
from train.checkpoint.run_directory import claim
from train.checkpoint.store import CheckpointStore
from train.config.load import load_config
from train.testing.trainer_programs import config_file

_IN_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")

# $0 is a directory, and what follows it a command.
_ON_A_SMALL_DISK = """
mount -t tmpfs -o size=3m none "$0"
"$@"
cp -r "$0/run" "$0-kept"
"""
_WITH_SMALL_FILES = """
ulimit -f 1200
"$@"
cp -r "$0/run" "$0-kept"
"""
_READ_ONLY = """
mount --bind "$0" "$0"
mount -o remount,bind,ro "$0"
exec "$@"
"""


def _can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    mounting = [*_IN_NAMESPACE, "mount", "-t", "tmpfs", "none", "/tmp"]
    return subprocess.run(mounting, capture_output=True, check=False).returncode == 0


_CAN_MOUNT = _can_mount()


def _run_in(script: str, directory: Path, *command: object) -> tuple[int, str, str]:
    """Runs a script on a directory, in a namespace if there are any, and in it a trainer."""
    words = [*(_IN_NAMESPACE if _CAN_MOUNT else ()), "sh", "-ec", script, directory, *command]
    ended = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout, ended.stderr


def _trainer(config: Path, output: Path) -> list[object]:
    return [sys.executable, "-m", "train.main_torch", "--config", config, "--output", output]


def test_a_run_on_a_full_disk_keeps_what_it_has_saved(tmp_path: Path) -> None:
    config, disk = config_file(tmp_path, num_steps=12), tmp_path / "disk"
    disk.mkdir()
    script = _ON_A_SMALL_DISK if _CAN_MOUNT else _WITH_SMALL_FILES
    policy = ("--set", "checkpoint.every_steps=2", "--set", "checkpoint.keep_last=9")
    status, stdout, stderr = _run_in(script, disk, *_trainer(config, disk / "run"), *policy)
    assert (status, stderr) == (0, "")
    saved = [int(step) for step in re.findall(r"^saved after (\d+) steps", stdout, re.MULTILINE)]
    failed = re.findall(r"^warning: not saved after (\d+) steps: (.*)", stdout, re.MULTILINE)
    assert failed and {reason for _, reason in failed} <= {
        os.strerror(errno.ENOSPC),
        os.strerror(errno.EFBIG),
    }
    assert [*saved, *(int(step) for step, _ in failed)] == [2, 4, 6, 8, 10]
    store = CheckpointStore(tmp_path / "disk-kept" / "checkpoints")
    assert store.steps() == saved  # and nothing of the others
    for step in saved:
        store.verified(step)
    load(tmp_path / "disk-kept" / "artifact")


def test_a_run_in_a_directory_that_is_read_only_is_refused_at_once(tmp_path: Path) -> None:
    config, run = config_file(tmp_path, num_steps=1), tmp_path / "run"
    if _CAN_MOUNT:
        with claim(run, load_config(config), "torch") as place:
            place.checkpoints.path(5).mkdir(parents=True)
        script, reason = _READ_ONLY, os.strerror(errno.EROFS)
    else:
        run, script, reason = Path("/proc/run"), 'exec "$@"', os.strerror(errno.ENOENT)
    expected = f"error: cannot train in {run}: {reason}; choose a directory that can be written\n"
    assert _run_in(script, tmp_path, *_trainer(config, run)) == (2, "", expected)
