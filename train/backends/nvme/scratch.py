"""Directories for what a run keeps on a disk while it goes on, and not longer."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    for left in parent.glob(f"{_PREFIX}*"):
        _remove_if_left(left)
    directory = Path(mkdtemp(prefix=_PREFIX, dir=parent))
    with (directory / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _remove_if_left(directory: Path) -> None:
    # Another process may be about to lock it, or remove it too.
    with suppress(OSError), (directory / _LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
