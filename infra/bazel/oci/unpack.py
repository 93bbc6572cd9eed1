"""Unpacks an image, for what puts images together from files: `//infra/images:serving.unpack`.

A Dockerfile copies the two folders, one after the other, so that a change of a source changes the
second only.
"""

import argparse
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

from base.files import new_directory
from base.interrupts import exit_when_interrupted

DEPENDENCIES = "dependencies"
APPLICATION = "application"


class UnpackError(Exception):
    """The image cannot be unpacked; the message says why."""


def unpack(layout: Path, target: Path) -> None:
    """Unpacks a layout of one image whose layers take nothing away, as those of oci_image.bzl.

    Files keep their modes and, if root does it, their owners; times are those of the archive.

    Args:
        layout: The folder.
        target: A folder that is made, whole or not at all. `application` in it gets the last layer,
            `dependencies` all others.

    Raises:
        UnpackError: The target exists, or something in the image cannot be unpacked there.
    """
    if os.path.lexists(target):
        raise UnpackError(f"{target} exists; name a folder that does not")
    manifest = _read(layout, _json(layout / "index.json")["manifests"][0]["digest"])
    *lower, last = [_blob(layout, layer["digest"]) for layer in manifest["layers"]]
    with new_directory(target) as assembled:
        for name, archives in ((DEPENDENCIES, lower), (APPLICATION, [last])):
            (assembled / name).mkdir(mode=0o755)
            for archive in archives:
                _extract(archive, assembled / name)


def _extract(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as layer:
        for member in layer:
            if not (member.isfile() or member.isdir() or member.issym()):
                raise UnpackError(f"{member.name} is neither a file, a directory nor a link")
            # Through a link something could come to be outside of the folder.
            if any((target / parent).is_symlink() for parent in Path(member.name).parents):
                raise UnpackError(f"{member.name} is below a link")
            if Path(member.name).is_absolute() or ".." in Path(member.name).parts:
                raise UnpackError(f"{member.name} is outside of the image")
            layer.extract(member, target, numeric_owner=True)


def _json(file: Path) -> Any:
    return json.loads(file.read_bytes())


def _read(layout: Path, digest: str) -> Any:
    return _json(_blob(layout, digest))


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="unpack")
    parser.add_argument("--layout", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    parser.add_argument("target", type=Path, help="a folder that is made")
    options = parser.parse_args()
    try:
        unpack(options.layout, options.target)
    except (UnpackError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    with exit_when_interrupted("interrupted: nothing was unpacked"):
        _main()
