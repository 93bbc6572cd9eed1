"""Where a user's path leads."""

import os
from pathlib import Path

from registry.errors import ArtifactError


def from_user(directory: str) -> Path:
    """An artifact's directory as named on a command line.

    `bazel run` starts programs in its own directory, so the path is resolved against the user's.

    Raises:
        ArtifactError: `directory` is empty, as an unset shell variable is. A Path could not tell
            that from the current directory.
    """
    if not directory:
        raise ArtifactError("the artifact's directory is ''; name one, or '.' for this one")
    return Path(os.environ.get("BUILD_WORKING_DIRECTORY", ""), directory)
