"""Files and directories that are there whole or not at all."""

import errno
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory


def make_directory(path: Path, undo: ExitStack) -> None:
    """Makes a directory and those missing above it, unless it is there.

    One after another: `Path.mkdir(parents=True)` calls itself for each, and does not say which it
    made when it fails half-way.

    Args:
        path: Of the directory.
        undo: Removes those made here again, but for what others have put something into by then.

    Raises:
        OSError: It cannot be made.
        ValueError: Its name is not one that a file can have.
    """
    # A link to nowhere is there, and nothing can be made in it.
    missing = [made for made in (path, *path.parents) if not os.path.lexists(made)]
    for made in reversed(missing):
        with suppress(FileExistsError):  # another program was quicker
            made.mkdir()
            undo.callback(_remove_if_empty, made)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()


def rehearse_directory(path: Path) -> None:
    """Finds out whether a directory can be made, with those missing above it; makes none.

    The trial is in a directory of its own beside what is there already, so that two programs that
    start at once do not see each other's.

    Raises:
        OSError: It cannot be made.
        ValueError: Its name is not one that a file can have.
    """
    path = path.absolute()
    ancestor = next(parent for parent in path.parents if os.path.lexists(parent))
    with TemporaryDirectory(prefix=".trial-", dir=ancestor) as trial, ExitStack() as undo:
        make_directory(Path(trial, path.relative_to(ancestor)), undo)
