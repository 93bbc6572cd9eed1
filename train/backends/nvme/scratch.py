"""Directories for what a run keeps on a disk while it goes on, and not longer."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

_PREFIX, _LOCK = "hpc-offload-", "lock"


@contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """Yields a new directory below one that is there, and removes it in the end.

    It also removes those of processes that were killed.

    Raises:
        OSError: `parent` is no directory that can be written.
    """
    with ExitStack() as stack:
        with _locked(parent):  # else another rank could remove it before its lock is held
            for left in parent.glob(f"{_PREFIX}*"):
                _remove_if_left(left)
            directory = Path(mkdtemp(prefix=_PREFIX, dir=parent))
            lock = stack.enter_context((directory / _LOCK).open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_if_left(directory: Path) -> None:
    # Its own process may be removing it.
    with suppress(OSError), (directory / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
