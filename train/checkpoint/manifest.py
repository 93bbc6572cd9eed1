"""What a checkpoint says of itself, and how it is known to be whole.

A checkpoint is a directory. `state/` holds what a framework's own library wrote, `manifest.json`
what it is of, with the size and the SHA-256 of every other file, and `manifest.sha256` the SHA-256
of that. It comes into being under another name; so one that has its name has all of it, unless the
disk or somebody has changed it since. Nothing of it is used before every byte was compared.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from base.config import FROM_LIST, Section, explain
from base.files import flush_tree
from train.checkpoint.course import Course

# What a framework's library wrote.
STATE = "state"

MANIFEST = "manifest.json"
DIGEST = "manifest.sha256"

# Of the directory and the manifest. What each version changed is told who has an older one.
FORMAT = 2
_CHANGES = {1: "the first", 2: "the loop's course, callbacks' states and metrics came to it"}

_DIGEST_LINE = re.compile(rf"([0-9a-f]{{64}})  {re.escape(MANIFEST)}\n")
_MAX_MANIFEST_BYTES = 64 * 2**20


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message says which file, and why."""


class FormatError(CheckpointError):
    """A checkpoint of another version of this program; nothing is wrong with it."""


class File(Section):
    """A file of a checkpoint."""

    path: str = Field(description="relative to the checkpoint, with '/'")
    size_bytes: int = Field(ge=0, description="its length")
    sha256: str = Field(description="of its bytes, in hex")


class Manifest(Section):
    """What a checkpoint is of."""

    format: int = Field(description="version of the layout and of this file")
    framework: str = Field(description="whose library wrote the state")
    step: int = Field(ge=1, description="optimizer updates that were made")
    course: Course = Field(description="of the loop, with the position in the data")
    callbacks: dict[str, dict[str, Any]] = Field(description="their states, by name")
    metrics: dict[str, float] = Field(description="on the held-out data, if it was evaluated")
    data_digest: str = Field(description="SHA-256 of the data set that it is a position in")
    seed: int = Field(description="of all random streams, each a function of it and of the step")
    world_size: int = Field(ge=1, description="ranks that wrote the state")
    config: dict[str, Any] = Field(description="of the run, whole")
    config_digest: str = Field(description="SHA-256 of it, see TrainConfig.digest")
    environment: dict[str, str] = Field(description="what it was written with and on")
    saved_at: str = Field(description="in UTC, by ISO 8601")
    files: Annotated[tuple[File, ...], FROM_LIST] = Field(description="all others")


def write_manifest(directory: Path, facts: Mapping[str, Any]) -> Manifest:
    """Completes a checkpoint whose state has been written, and waits for the disk.

    Args:
        directory: Where nothing but `state` is.
        facts: Of `Manifest`, but `format` and `files`.

    Raises:
        OSError: A file cannot be read or written.
    """
    files = tuple(
        File(
            path=path.relative_to(directory).as_posix(),
            size_bytes=path.stat().st_size,
            sha256=_sha256(path),
        )
        for path in sorted(_files(directory))
    )
    manifest = Manifest(**facts, format=FORMAT, files=files)
    content = manifest.model_dump_json(indent=1).encode()
    (directory / MANIFEST).write_bytes(content)
    line = f"{hashlib.sha256(content).hexdigest()}  {MANIFEST}\n"
    (directory / DIGEST).write_text(line)
    flush_tree(directory)
    return manifest


def verified_manifest(directory: Path) -> Manifest:
    """Reads a checkpoint's manifest and compares every byte of the checkpoint with it.

    Raises:
        CheckpointError: A file is missing, was changed or was added.
        FormatError: All of it is of a format that is not read here.
    """
    try:
        manifest = read_manifest(directory)
        known = {MANIFEST, DIGEST, *(file.path for file in manifest.files)}
        found = {path.relative_to(directory).as_posix() for path in _files(directory)}
        if missing := sorted(known - found):
            raise CheckpointError(f"{directory / missing[0]} is missing")
        if added := sorted(found - known):
            raise CheckpointError(f"{directory / added[0]} is not in {MANIFEST}")
        for file in manifest.files:
            path = directory / file.path
            if (size := path.stat().st_size) != file.size_bytes:
                raise CheckpointError(f"{path} has {size} bytes, expected {file.size_bytes}")
            if _sha256(path) != file.sha256:
                raise CheckpointError(f"{path} was changed: its SHA-256 is not that of {MANIFEST}")
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}") from error
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """Reads a checkpoint's manifest, which is verified itself; the files it tells of are not.

    Raises:
        CheckpointError: It was changed.
        FormatError: It is of a format that is not read here.
        OSError: It cannot be read.
    """
    path = directory / MANIFEST
    with path.open("rb") as file:
        content = file.read(_MAX_MANIFEST_BYTES)
    line = _DIGEST_LINE.fullmatch((directory / DIGEST).read_bytes().decode(errors="replace"))
    if line is None or hashlib.sha256(content).hexdigest() != line[1]:
        raise CheckpointError(f"{path} was changed: its SHA-256 is not that in {DIGEST}")
    fields = json.loads(content)
    if (version := fields.get("format")) != FORMAT:  # and so may have other keys
        known = "; ".join(f"{number}: {change}" for number, change in _CHANGES.items())
        raise FormatError(
            f"{path} is of format {version}, and this program reads {FORMAT} ({known})"
        )
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        raise CheckpointError(f"{path}: {'; '.join(explain(error, Manifest))}") from error


def _files(directory: Path) -> Iterator[Path]:
    """Yields all that is no directory; a link is none, whatever it leads to."""
    for folder, folders, names in os.walk(directory, onerror=_raise):
        links = (name for name in folders if Path(folder, name).is_symlink())
        yield from (Path(folder, name) for name in (*names, *links))


def _raise(error: OSError) -> None:
    raise error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
