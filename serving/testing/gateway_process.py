"""`//serving:up` as a child process, for tests."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from serving.client.sync import InferenceClient

# Far more than either takes, on a busy machine too.
START_S = 300.0
STOP_S = 120.0

_READY = re.compile(r"serving (.+) at grpc=(\S+) http=(\S+) admin=(\S+)\n")


class Gateway(NamedTuple):
    """A running gateway; addresses are host:port."""

    process: subprocess.Popen[str]
    models: str
    grpc: str
    http: str
    admin: str
    log: Path

    def client(self) -> InferenceClient:
        """A client that waits longer than anything takes."""
        return InferenceClient(self.grpc, timeout_s=START_S)


def fetch(address: str, path: str) -> str:
    """What a page says.

    Raises:
        HTTPError: the status is that of an error.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}{path}", timeout=START_S) as reply:
        return str(reply.read().decode())


def start(
    *arguments: object,
    log: Path | None = None,
    env: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[str]:
    """Starts a gateway in a session of its own, so that all its processes can be found.

    Args:
        arguments: of the program.
        log: where stderr goes; None: to a pipe.
        env: variables beside those of this process.
    """
    with open(log or os.devnull, "w") as log_file:
        return subprocess.Popen(
            [sys.executable, "-m", "serving.up", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if log is None else log_file,
            text=True,
            start_new_session=True,
            env=os.environ | {"HOME": "/nonexistent"} | dict(env),  # it must need no home directory
        )


@contextmanager
def running(
    *arguments: object, log: Path, env: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Gateway]:
    """A gateway on free ports, ready. Arguments are as in `start`.

    SIGTERM must end it without a word on stdout, unless a test has ended it before.
    """
    ports = ["--grpc-port", 0, "--http-port", 0, "--admin-port", 0]
    process = start(*ports, "--drain.window-s", 0, *arguments, log=log, env=env)
    try:
        assert process.stdout is not None
        ready = _READY.fullmatch(process.stdout.readline())
        assert ready is not None, log.read_text()
        models, grpc, http, admin = ready.groups()
        gateway = Gateway(process, models, grpc, http, admin, log)
        yield gateway
        if process.poll() is None:
            assert end_by_signal(gateway, signal.SIGTERM) == ""
    finally:
        process.terminate()
        process.communicate(timeout=STOP_S)


def end_by_signal(gateway: Gateway, number: signal.Signals) -> str:
    """Ends a gateway, checks that nothing of it is left, and returns what it printed."""
    session = gateway.process.pid
    homes = homes_of(session)
    # A terminal sends its signals to all processes, a supervisor its own to one.
    (os.kill if number is signal.SIGTERM else os.killpg)(session, number)
    stdout, _ = gateway.process.communicate(timeout=STOP_S)
    assert gateway.process.returncode == 0
    assert "Traceback" not in gateway.log.read_text()
    wait_until(lambda: not processes_of(session))
    assert not any(home.exists() for home in homes)
    return stdout


def homes_of(session: int) -> set[Path]:
    """The directories that the processes of a gateway name on their command lines."""
    commands = " ".join(processes_of(session).values())
    return {Path(home) for home in re.findall(r"/tmp/hpc-\w+", commands)}  # noqa: S108


def replicas_of(session: int) -> list[int]:
    """Process ids of a gateway's replicas."""
    processes = processes_of(session).items()
    return [pid for pid, command in processes if "ray::ServeReplica" in command]


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
