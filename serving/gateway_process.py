"""A gateway as a child process, for tests."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from serving.client import InferenceClient

# Far more than either takes, on a busy machine too.
START_S = 300.0
STOP_S = 120.0


class Gateway(NamedTuple):
    """A running gateway."""

    process: subprocess.Popen[str]
    address: str

    def client(self) -> InferenceClient:
        return InferenceClient(self.address, timeout_s=START_S)


def start(
    *arguments: object, env: Mapping[str, str] = MappingProxyType({})
) -> subprocess.Popen[str]:
    """Starts a gateway in a session of its own, so that all its processes can be found.

    Args:
        arguments: of the program.
        env: variables beside those of this process.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "serving.gateway", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"HOME": "/nonexistent"} | dict(env),  # it must need no home directory
    )


@contextmanager
def running(*arguments: object, env: Mapping[str, str] = MappingProxyType({})) -> Iterator[Gateway]:
    """A gateway on a free port, ready. Arguments are as in start.

    SIGTERM must end it without a word, unless a test has ended it before.
    """
    process = start("--port", 0, *arguments, env=env)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        gateway = Gateway(process, line.split()[-1])
        yield gateway
        if process.poll() is None:
            assert end_by_signal(gateway, signal.SIGTERM) == ""
    finally:
        process.terminate()
        process.communicate(timeout=STOP_S)


def end_by_signal(gateway: Gateway, number: signal.Signals) -> str:
    """Ends a gateway, checks that nothing of it is left, and returns what it printed."""
    session = gateway.process.pid
    commands = " ".join(processes_of(session).values())
    (ray_directory,) = set(re.findall(r"/tmp/hpc-\w+", commands))  # noqa: S108  nothing is written
    # A terminal sends its signals to all processes, a supervisor its own to one.
    (os.kill if number is signal.SIGTERM else os.killpg)(session, number)
    stdout, stderr = gateway.process.communicate(timeout=STOP_S)
    assert gateway.process.returncode == 0
    assert "Traceback" not in stderr
    wait_until(lambda: not processes_of(session))
    assert not Path(ray_directory).exists()
    return stdout


def wait_until(holds: Callable[[], bool], timeout_s: float = STOP_S) -> None:
    """Waits for what will hold at some time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def processes_of(session: int) -> dict[int, str]:
    """Command lines, by process id, of all live processes of a session."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session_of = (directory / "stat").read_text().rsplit(")", 1)[1].split()[:4]
            command = (directory / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if int(session_of) == session and state != "Z":
            found[int(directory.name)] = command
    return found
