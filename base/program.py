"""What a program's user says and is told: the paths they name, and how the program ends."""

import os
import sys
from pathlib import Path
from typing import NoReturn

# What was asked for was sensible, and failed.
EXIT_FAILED = 1
# What was asked for cannot be done; nothing was begun.
EXIT_BAD_INPUT = 2


class PathError(ValueError):
    """A path that leads nowhere, and what to do."""


def from_user(path: str | Path) -> Path:
    """Returns where a path of the command line leads, as its user sees it.

    `bazel run` starts programs in a directory of its own; that in which it was called is in the
    environment.
    """
    return Path(os.environ.get("BUILD_WORKING_DIRECTORY", ""), path)


def directory_from_user(directory: str, if_empty: str) -> Path:
    """Returns a directory of the command line as `from_user`, absolute.

    Args:
        directory: As it was given; a Path could not tell '' from the current directory.
        if_empty: What the user is told of ''.

    Raises:
        PathError: It is empty, as an unset variable of a shell is, or it is relative to a
            directory that is gone.
    """
    if not directory:
        raise PathError(if_empty)
    try:
        return Path(os.path.abspath(from_user(directory)))
    except FileNotFoundError as error:
        raise PathError(
            f"the current directory, where {directory} was to be, is gone; name an absolute path"
        ) from error


def end_with_error(error: object, status: int = EXIT_BAD_INPUT) -> NoReturn:
    """Ends the program with one line on stderr.

    Args:
        error: What was wrong and what is accepted.
        status: What the process ends with.
    """
    print(f"error: {error}", file=sys.stderr)
    sys.exit(status)
