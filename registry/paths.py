"""Where a user's path leads."""

import os
from pathlib import Path

from registry.errors import ArtifactError


def from_user(directory: str) -> Path:
    """An artifact's directory as named on a command line, absolute.

    `bazel run` starts programs in its own directory, so the path is resolved against the user's.

    Raises:
        ArtifactError: `directory` is empty, as an unset shell variable is; a Path could not tell
            that from the current directory. Or it starts from a directory that is gone.
    """
    if not directory:
        raise ArtifactError("the artifact's directory is ''; name one, or '.' for this one")
    try:
        return Path(os.environ.get("BUILD_WORKING_DIRECTORY", ""), directory).absolute()
    except FileNotFoundError as error:
        raise ArtifactError(
            f"the current directory, where {directory} was to be, is gone; name an absolute path"
        ) from error
