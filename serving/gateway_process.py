"""A gateway as a child process, for tests."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
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
    """A gateway on a free port, ready; it is told to stop at the end. Arguments are as in start."""
    process = start("--port", 0, *arguments, env=env)
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
