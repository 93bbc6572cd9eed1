"""The files of an artifact's directory: which there are, and whether they are those it lists.

Nothing that stands in a directory is trusted; links, pipes and devices are refused. A hard link is
a plain file like any other, which a local store makes use of: that it is the right one its digest
tells.
"""

import os
import re
import stat
from collections.abc import Collection
from pathlib import Path

from registry.descriptor import MAX_FILES, SIGNATURES
from registry.errors import ArtifactError
from registry.payload import corrupt, unreadable

# Detached signatures, which no descriptor lists: named after the key that made them.
SIGNATURE_PATH = re.compile(rf"{SIGNATURES}/[0-9a-f]{{16}}\.sig")
MAX_SIGNATURES = 64
MAX_SIGNATURE_BYTES = 2**20

# More than any artifact has: so many names are not even collected.
_MAX_FOUND = MAX_FILES + MAX_SIGNATURES + 16
_MAX_NAMED = 8


def plain_files(directory: Path) -> set[str]:
    """Returns the relative path of every file below a directory.

    Raises:
        ArtifactError: There is no such directory, it cannot be read, it holds something that is
            neither a plain file nor a directory, or more files than any artifact.
    """
    found: set[str] = set()
    try:
        if not directory.is_dir():
            raise ArtifactError(f"no artifact at {directory}: there is no such directory")
        # Path.rglob would pass over a folder that it may not read.
        for folder, folders, files in os.walk(directory, onerror=_raise):
            for path in (Path(folder, name) for name in [*folders, *files]):
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode):
                    found.add(path.relative_to(directory).as_posix())
                elif not stat.S_ISDIR(mode):
                    raise corrupt(path, "it is neither a plain file nor a directory")
            if len(found) > _MAX_FOUND:
                raise ArtifactError(
                    f"artifact {directory} holds more than {_MAX_FOUND} files, more than any has"
                )
    except (OSError, ValueError) as error:  # ValueError: no path can hold a NUL
        raise unreadable(directory, error) from error
    return found


def _raise(error: OSError) -> None:
    raise error


def compare_files(directory: Path, found: Collection[str], listed: Collection[str]) -> None:
    """Checks that a directory holds what is listed, signatures, and nothing else.

    Args:
        directory: For the message.
        found: Relative paths of all of its files.
        listed: Of those that are to be there.

    Raises:
        ArtifactError: A file is missing, or is not listed; or there are too many signatures.
    """
    signatures = {path for path in found if SIGNATURE_PATH.fullmatch(path)}
    if missing := sorted(set(listed) - set(found)):
        raise ArtifactError(f"artifact {directory} is incomplete: {_named(missing)} missing")
    if unlisted := sorted(set(found) - set(listed) - signatures):
        raise ArtifactError(
            f"artifact {directory} holds files that it does not list: {_named(unlisted)}; "
            "remove them or publish again"
        )
    if len(signatures) > MAX_SIGNATURES:
        raise ArtifactError(
            f"artifact {directory} holds {len(signatures)} signatures, at most {MAX_SIGNATURES} "
            "are read; remove some"
        )


def _named(paths: list[str]) -> str:
    shown = ", ".join(paths[:_MAX_NAMED])
    return shown if len(paths) <= _MAX_NAMED else f"{shown} and {len(paths) - _MAX_NAMED} more"


def check_size(path: Path, expected_bytes: int) -> None:
    """Checks the size of a file without reading it.

    Raises:
        ArtifactError: It has another one.
    """
    try:
        size_bytes = path.lstat().st_size
    except OSError as error:
        raise unreadable(path, error) from error
    if size_bytes != expected_bytes:
        raise corrupt(path, f"expected {expected_bytes} bytes, found {size_bytes}")
