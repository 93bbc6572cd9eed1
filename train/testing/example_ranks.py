"""Ranks that do well, fail and die, for tests."""

import atexit
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from train.launch.heartbeat import beat


def report(rank: int, send: Callable[[object], None], greeting: str) -> int:
    """Says who it is, and returns the square of its rank."""
    send(f"{greeting} from {rank}")
    return rank**2


def fail(rank: int, send: Callable[[object], None], error: Exception) -> None:
    """Raises `error` on rank 1, and of it something else on the others."""
    if rank == 1:
        raise error
    time.sleep(0.3)
    raise ConnectionError("a peer went away")


def die(rank: int, send: Callable[[object], None]) -> None:
    """Is killed as rank 1, and fails of it on the others."""
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
    raise ConnectionError("a peer went away")


def hang(rank: int, send: Callable[[object], None], how: str) -> None:
    """Has all ranks come to two places, and all but rank 1 to a third, where they wait for it.

    Args:
        rank: Of this process.
        send: Unused.
        how: "asleep", "stopped", or "together": all come to the third place.
    """
    beat()
    beat()
    if rank == 1 and how == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    if rank != 1 or how == "together":
        beat()
    time.sleep(60)


def write_until_ended(
    rank: int, send: Callable[[object], None], directory: Path, fails: bool
) -> None:
    """Leaves a file in `directory` only if it is ended without a chance to remove it.

    Or if it goes through the interpreter's own end.
    """
    path = directory / str(rank)
    atexit.register(path.write_text, "native threads may abort while the interpreter ends")
    try:
        path.write_text(str(os.getpid()))
        send(rank)
        while not (fails and rank == 0):
            time.sleep(60)
        raise ValueError("rank 0 gives up")
    finally:
        path.unlink(missing_ok=True)
