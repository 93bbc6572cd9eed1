"""A gateway as a child process, for tests."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from serving.client import InferenceClient

START_S = 120.0
STOP_S = 30.0


class Gateway(NamedTuple):
    """A running gateway."""

    process: subprocess.Popen[str]
    address: str

    def client(self) -> InferenceClient:
        return InferenceClient(self.address, timeout_s=START_S)


def start(*arguments: object) -> subprocess.Popen[str]:
    """Starts a gateway in a session of its own, so that all its processes can be found."""
    return subprocess.Popen(
        [sys.executable, "-m", "serving.gateway", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"HOME": "/nonexistent"},  # it must need no home directory
    )


@contextmanager
def running(*arguments: object) -> Iterator[Gateway]:
    process = start("--port", 0, *arguments)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield Gateway(process, line.split()[-1])
    finally:
        process.terminate()
        process.communicate(timeout=STOP_S)


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
