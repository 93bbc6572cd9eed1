"""How an artifact gets to disk: assembled beside its place, hashed while written, then renamed."""

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from hpc.artifact.v1 import artifact_pb2

from base.files import new_directory
from registry.descriptor import (
    DESCRIPTOR,
    DIGEST,
    MAX_DESCRIPTOR_BYTES,
    WEIGHTS,
    canonical_json,
    check,
)
from registry.errors import ArtifactError, PlaceTakenError
from registry.payload import copy_chunks, write_hashed
from registry.weights import write_tensors

# Of a file that is still to be written.
_NO_DIGEST = "0" * 64


def publish(
    directory: Path,
    artifact: artifact_pb2.Artifact,
    tensors: Mapping[str, np.ndarray],
    files: Mapping[str, bytes | Path] | None = None,
) -> artifact_pb2.Artifact:
    """Writes a new artifact to `directory`, which appears complete or not at all.

    Weights and files are hashed while they are written; no second copy of them is made.

    Args:
        directory: as `require_free` wants it. Missing parents are made.
        artifact: complete but for `files`, which is filled in; `config_json` is made canonical.
        tensors: weights by canonical name, of any memory layout, in the dtypes of
            `registry.weights.DTYPES`.
        files: what else is to be in it, by path in it: the content, or a plain file that has it.

    Returns:
        The descriptor as written.

    Raises:
        ArtifactError: a field breaks a rule of the schema, a weight has a name or a dtype that
            cannot be stored, a file cannot be read, or the directory cannot be written.
        PlaceTakenError: `directory` is taken, or was when all was written.

    Whatever it raises, an interrupt too, it removes what it wrote. A process that is killed may
    leave `.partial-*` beside `directory`, which is in nobody's way and may be removed.
    """
    others = files or {}
    if WEIGHTS in others:
        raise ArtifactError(f"{WEIGHTS} is written from the tensors; it cannot be a file as well")
    described = artifact_pb2.Artifact()
    described.CopyFrom(artifact)
    del described.files[:]
    for path in sorted([WEIGHTS, *others]):
        described.files.add(path=path, sha256=_NO_DIGEST)  # to be filled in
    check(described)
    described.model.config_json = canonical_json(described.model.config_json)
    _check_descriptor_size(described)

    try:
        # The rename at the end is what decides; this spares the writing, and says more.
        require_free(directory)
        with new_directory(directory) as assembled:
            for file in described.files:
                _write_payload(assembled / file.path, file, tensors, others)
            _write_descriptor(assembled, described)
    except FileExistsError as error:
        raise PlaceTakenError(
            f"cannot publish to {directory}: {error.strerror}; choose a new directory"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: no path can hold a NUL
        raise ArtifactError(
            f"cannot publish to {directory}: {getattr(error, 'strerror', None) or error}; "
            "choose a directory that is new or empty and can be written"
        ) from error
    return described


def _write_payload(
    path: Path,
    file: artifact_pb2.File,
    tensors: Mapping[str, np.ndarray],
    others: Mapping[str, bytes | Path],
) -> None:
    """Writes a file of the artifact, and its size and digest into `file`."""
    if file.path == WEIGHTS:
        produce = partial(write_tensors, tensors=tensors)
    else:
        content = others[file.path]
        produce = partial(_write_content, content=content)
    file.size_bytes, file.sha256 = write_hashed(path, produce)


def _write_content(write: Callable[[bytes], object], content: bytes | Path) -> None:
    if isinstance(content, Path):
        copy_chunks(content, write)
    else:
        write(content)


def _check_descriptor_size(artifact: artifact_pb2.Artifact) -> None:
    # Sizes of files, which are not known yet, take ten bytes each at the most.
    size_bytes = artifact.ByteSize() + 10 * len(artifact.files)
    if size_bytes > MAX_DESCRIPTOR_BYTES:
        raise ArtifactError(
            f"the descriptor takes {size_bytes} bytes; at most {MAX_DESCRIPTOR_BYTES} are "
            "read back: shorten model.config_json, the metrics or the signature"
        )


def _write_descriptor(directory: Path, artifact: artifact_pb2.Artifact) -> None:
    descriptor = artifact.SerializeToString(deterministic=True)
    digest = hashlib.sha256(descriptor).hexdigest()
    (directory / DESCRIPTOR).write_bytes(descriptor)
    (directory / DIGEST).write_bytes(f"{digest}  {DESCRIPTOR}\n".encode())


def require_free(directory: Path) -> None:
    """Checks that nothing stands at `directory`, or a directory that a new one can replace.

    Raises:
        PlaceTakenError: A link, a file, a mount point or a directory that is not empty.
    """
    if directory.is_symlink():
        problem = "is a symbolic link, which no directory can replace"
    elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        problem = "exists and is not empty; artifacts never change"
    elif os.path.ismount(directory):
        problem = "is a mount point, which no directory can replace"
    else:
        return
    raise PlaceTakenError(f"{directory} {problem}: choose a new directory")
