"""Artifacts on disk: `publish` writes one atomically, and what reads one trusts nothing unverified.

An artifact is a directory that never changes:

    artifact.pb.sha256   digest of artifact.pb, for `sha256sum -c`: the identity of the artifact
    artifact.pb          the Artifact message, which holds size and digest of every other file
    model.safetensors    the weights
    ...                  other files that the descriptor lists: a model card, programs
    signatures/*.sig     detached signatures: added when one likes, no part of the identity

Digests chain downwards, so each fact is stored once and a flipped bit anywhere is found. `load` and
`verify` follow the chain to its end; `read_descriptor` stops before the weights, which may be
large.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from hpc.artifact.v1 import artifact_pb2

from registry.contents import check_size, compare_files, plain_files
from registry.descriptor import DESCRIPTOR, DIGEST, MAX_DESCRIPTOR_BYTES, WEIGHTS, check
from registry.errors import ArtifactError, PlaceTakenError
from registry.payload import (
    check_digest,
    corrupt,
    map_file,
    map_verified,
    read_small,
    read_verified,
    verify_file,
)
from registry.publishing import publish, require_free
from registry.weights import FormatError, views_of

__all__ = [
    "ArtifactError",
    "LoadedArtifact",
    "PlaceTakenError",
    "VerifiedDescriptor",
    "load",
    "publish",
    "read_descriptor",
    "read_payload",
    "require_free",
    "verify",
]

# What is said of an artifact's directory that was given as ''.
NO_DIRECTORY = "the artifact's directory is ''; name one, or '.' for this one"

_DIGEST_LINE = re.compile(rb"([0-9a-f]{64})  artifact\.pb\n")
_MAX_DIGEST_BYTES = 1024


class VerifiedDescriptor(NamedTuple):
    """What an artifact says of itself, verified; of its other files only that they are there.

    Attributes:
        artifact: the descriptor.
        directory: where it was read from.
        digest: SHA-256 of the descriptor, which identifies the artifact with all its files.
    """

    artifact: artifact_pb2.Artifact
    directory: Path
    digest: str


class LoadedArtifact(NamedTuple):
    """An artifact whose every byte was verified.

    Attributes:
        artifact: the descriptor.
        tensors: weights by canonical name.
        directory: where it was read from.
        digest: SHA-256 of the descriptor, which identifies the artifact with all its files.
    """

    artifact: artifact_pb2.Artifact
    tensors: dict[str, np.ndarray]
    directory: Path
    digest: str


def read_descriptor(directory: Path) -> VerifiedDescriptor:
    """Reads the descriptor of an artifact, and no weights.

    Raises:
        ArtifactError: no artifact there, the descriptor is corrupt or states something against the
            schema, or a file is missing, unlisted, not a plain file, or of another size than
            recorded. Whether its bytes are those recorded, `verify` and `load` tell.
    """
    _require_artifact(directory)
    found = plain_files(directory)
    line = _DIGEST_LINE.fullmatch(read_small(directory / DIGEST, _MAX_DIGEST_BYTES))
    if line is None:
        raise corrupt(directory / DIGEST, "it is not '<64 hexadecimal digits>  artifact.pb'")
    digest = line[1].decode()
    descriptor = read_small(directory / DESCRIPTOR, MAX_DESCRIPTOR_BYTES)
    check_digest(directory / DESCRIPTOR, hashlib.sha256(descriptor).hexdigest(), digest)
    artifact = _parse(directory, descriptor)

    compare_files(directory, found - {DIGEST, DESCRIPTOR}, [file.path for file in artifact.files])
    for file in artifact.files:
        check_size(directory / file.path, file.size_bytes)
    if all(file.path != WEIGHTS for file in artifact.files):
        raise ArtifactError(f"no artifact at {directory}: its descriptor lists no {WEIGHTS}")
    return VerifiedDescriptor(artifact, directory, digest)


def _require_artifact(directory: Path) -> None:
    """Checks that a directory has what every artifact has, whatever else it holds.

    What is no artifact at all should not be told of its first link or pipe.
    """
    for name in (DIGEST, DESCRIPTOR):
        if os.path.isdir(directory) and _is_absent(directory / name):
            raise ArtifactError(f"no artifact at {directory}: {name} is missing")


def _is_absent(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):  # which `plain_files` puts in words
        pass
    return False


def verify(directory: Path) -> VerifiedDescriptor:
    """Checks every byte of an artifact, in memory that does not grow with it.

    Raises:
        ArtifactError: as `load`.
    """
    described = read_descriptor(directory)
    for file in described.artifact.files:
        verify_file(directory, file)
        if file.path == WEIGHTS:  # Of the mapping no more is read than the header.
            _tensors(directory, map_file(directory, file))
    return described


def load(directory: Path, *, mapped: bool = False) -> LoadedArtifact:
    """Reads an artifact whole; the bytes that were verified are the bytes that are parsed.

    Args:
        directory: of the artifact.
        mapped: leave the weights in the file, of which the operating system reads what is used and
            which all processes share. The tensors are then read-only, and whoever can write to the
            file can change them later: say so only of a directory where nobody else may write.

    Returns:
        The artifact; its tensors are views of one buffer, which holds the only copy.

    Raises:
        ArtifactError: as `read_descriptor`, or a file has another digest than recorded, or the
            weights are not in safetensors' format.
    """
    artifact, _, digest = read_descriptor(directory)
    read_weights = map_verified if mapped else read_verified
    tensors: dict[str, np.ndarray] = {}
    for file in artifact.files:
        if file.path == WEIGHTS:
            tensors = _tensors(directory, read_weights(directory, file))
        else:
            verify_file(directory, file)
    return LoadedArtifact(artifact, tensors, directory, digest)


def read_payload(described: VerifiedDescriptor | LoadedArtifact, path: str) -> bytes:
    """Returns the content of a file that an artifact lists, verified.

    Raises:
        ArtifactError: it lists no such file, or the file is not as it says.
    """
    for file in described.artifact.files:
        if file.path == path:
            return read_verified(described.directory, file).tobytes()
    listed = ", ".join(file.path for file in described.artifact.files)
    raise ArtifactError(f"artifact {described.directory} lists no {path}; it lists {listed}")


def _tensors(directory: Path, content: np.ndarray) -> dict[str, np.ndarray]:
    try:
        return views_of(content)
    except FormatError as error:
        raise corrupt(directory / WEIGHTS, f"not safetensors: {error}") from error


def _parse(directory: Path, descriptor: bytes) -> artifact_pb2.Artifact:
    try:
        artifact = artifact_pb2.Artifact.FromString(descriptor)
    except DecodeError as error:
        raise corrupt(directory / DESCRIPTOR, "it is not an Artifact message") from error
    try:
        check(artifact)
    except ArtifactError as error:
        raise corrupt(directory / DESCRIPTOR, str(error)) from error
    return artifact
