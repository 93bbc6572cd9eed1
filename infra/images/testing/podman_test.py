"""A test that is killed leaves no container and no file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.images.testing.podman import podman
from serving.testing.gateway_process import wait_until

REDIS = Path("infra/images/redis")

# Started, it runs until somebody ends it.
PROGRAM = f"""
import time
from pathlib import Path
from infra.images.testing.podman import podman

with podman() as engine:
    engine.load(Path({str(REDIS)!r}), "redis")
    engine("run", "--detach", "--restart", "always", "redis", "--save", "")
    print(engine.folder, flush=True)
    time.sleep(3600)
"""


def processes_below(folder: str) -> list[int]:
    """Those that name a folder on their command lines."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if folder in command:
            found.append(int(process.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_test_that_is_killed_leaves_nothing(number: signal.Signals) -> None:
    with podman():  # or this test is skipped
        pass
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as test:
        assert test.stdout is not None
        folder = test.stdout.readline().decode().strip()
        assert processes_below(folder)
        os.kill(test.pid, number)
    wait_until(lambda: not Path(folder).exists())
    wait_until(lambda: not processes_below(folder))
    assert folder not in Path("/proc/mounts").read_text()
