"""Files and directories that are there whole or not at all."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory


def rehearse_directory(path: Path) -> None:
    """Finds out whether a directory can be made, with those missing above it; makes none.

    The trial is in a directory of its own beside what is there already, so that two programs that
    start at once do not see each other's.

    Raises:
        OSError: It cannot be made.
        ValueError: Its name is not one that a file can have.
    """
    path = path.absolute()
    # A link to nowhere is there, and nothing can be made in it.
    ancestor = next(parent for parent in path.parents if os.path.lexists(parent))
    with TemporaryDirectory(prefix=".trial-", dir=ancestor) as trial:
        Path(trial, path.relative_to(ancestor)).mkdir(parents=True)
