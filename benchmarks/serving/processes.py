"""Servers as processes: started in sessions of their own, paused, ended, and what they take."""

import os
import re
import signal
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

_STOP_S = 30.0
_LOOK_AGAIN_S = 0.01
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_WORDS_OF_LOG = 1500

# One thread computes, in every server alike.
_THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HPC_NUM_THREADS": "1"}

# Of the user's shell, what would lead a server or its parts elsewhere.
_ELSEWHERE = re.compile(r"RAY_.*|(grpc|http|https|all)_proxy", re.IGNORECASE)


class Taken(NamedTuple):
    """What all processes of a session have taken.

    Attributes:
        cpu_s: Of the processor, those that have ended not included.
        resident_bytes: Now; what processes share counts in each.
    """

    cpu_s: float = 0.0
    resident_bytes: int = 0


class Process(NamedTuple):
    """A program and all of its children: a session."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def session(self) -> int:
        """By which its processes are found."""
        return self.process.pid

    def pause(self) -> None:
        """Stops it until `go_on`, so that it takes nothing from others."""
        os.killpg(self.session, signal.SIGSTOP)

    def go_on(self) -> None:
        """Continues it."""
        os.killpg(self.session, signal.SIGCONT)

    def has_ended(self) -> str | None:
        """Returns the last words of a program that has ended, None of one that runs."""
        if self.process.poll() is None:
            return None
        words = self.log.read_text(errors="replace")[-_WORDS_OF_LOG:]
        return f"status {self.process.returncode}: {words}"


@contextmanager
def running(command: Sequence[str | Path], log: Path, *, ours: bool = True) -> Iterator[Process]:
    """Runs a program until the block ends.

    Args:
        command: With its arguments.
        log: Where its output goes.
        ours: Whether it is to find our packages; another environment brings its own.
    """
    environment = {key: value for key, value in os.environ.items() if not _ELSEWHERE.fullmatch(key)}
    if not ours:
        environment.pop("PYTHONPATH", None)
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment | _THREADS,
            start_new_session=True,
        )
        try:
            yield Process(process, log)
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a program as an operator would, and what is left of its session by force."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    while left := _processes_of(process.pid):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_AGAIN_S)
    process.wait()


def taken() -> Mapping[int, Taken]:
    """Returns what each session on this machine has taken, by its number."""
    found: dict[int, Taken] = defaultdict(Taken)
    for _, fields in _stats():
        session = int(fields[3])
        cpu_s = (int(fields[11]) + int(fields[12])) * _TICK_S  # of the user and of the system
        before = found[session]
        resident_bytes = before.resident_bytes + int(fields[21]) * _PAGE_BYTES
        found[session] = Taken(before.cpu_s + cpu_s, resident_bytes)
    return found


def _processes_of(session: int) -> list[int]:
    """Those that live; one that has ended may wait for its parent to hear of it."""
    return [pid for pid, fields in _stats() if int(fields[3]) == session and fields[0] not in "ZX"]


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Yields each process and its fields from the state on, see proc_pid_stat(5)."""
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended while we looked
            yield int(directory.name), (directory / "stat").read_text().rpartition(")")[2].split()


def free_ports(number: int) -> list[int]:
    """Returns ports of loopback that nobody listens on, each another one."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
