"""Artifacts on disk: `publish` writes one atomically, and what reads one trusts nothing unverified.

An artifact is a directory that never changes:

    artifact.pb.sha256   digest of artifact.pb, for `sha256sum -c`: the identity of the artifact
    artifact.pb          the Artifact message, which holds size and digest of every other file
    model.safetensors    the weights

Digests chain downwards, so each fact is stored once and a flipped bit anywhere is found. `load`
follows the chain to its end; `read_descriptor` stops before the weights, which may be large.
"""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from google.protobuf.message import DecodeError
from hpc.artifact.v1 import artifact_pb2

from base.files import new_directory
from registry.descriptor import canonical_json, check
from registry.errors import ArtifactError, PlaceTakenError

__all__ = [
    "ArtifactError",
    "LoadedArtifact",
    "PlaceTakenError",
    "VerifiedDescriptor",
    "load",
    "publish",
    "read_descriptor",
    "require_free",
]

DESCRIPTOR = "artifact.pb"
DIGEST = "artifact.pb.sha256"
WEIGHTS = "model.safetensors"

# A descriptor is a few kilobytes; a larger one is not read, let alone parsed.
MAX_DESCRIPTOR_BYTES = 16 * 2**20

# What is said of an artifact's directory that was given as ''.
NO_DIRECTORY = "the artifact's directory is ''; name one, or '.' for this one"

MAX_SHOWN = 64  # characters of a name in an error

# The header's key for text about the file.
_RESERVED_NAME = "__metadata__"

_DIGEST_LINE = re.compile(rb"([0-9a-f]{64})  artifact\.pb\n")

# What safetensors can read back into numpy. bfloat16 is absent: numpy has no such type.
_WEIGHT_DTYPES = frozenset(
    [
        "float64",
        "float32",
        "float16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint64",
        "uint32",
        "uint16",
        "uint8",
        "bool",
    ]
)


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


def publish(
    directory: Path, artifact: artifact_pb2.Artifact, tensors: Mapping[str, np.ndarray]
) -> artifact_pb2.Artifact:
    """Writes a new artifact to `directory`, which appears complete or not at all.

    Args:
        directory: as `require_free` wants it. Missing parents are made.
        artifact: complete but for `files`, which is filled in; `config_json` is made canonical.
        tensors: weights by canonical name, of any memory layout.

    Returns:
        The descriptor as written.

    Raises:
        ArtifactError: a field breaks a rule of the schema, a weight has a name or a dtype that
            cannot be stored, or the directory cannot be written.
        PlaceTakenError: `directory` is taken, or was when all was written.

    Whatever it raises, an interrupt too, it removes what it wrote. A process that is killed may
    leave `.partial-*` beside `directory`, which is in nobody's way and may be removed.
    """
    described = artifact_pb2.Artifact()
    described.CopyFrom(artifact)
    del described.files[:]
    check(described)
    described.model.config_json = canonical_json(described.model.config_json)

    weights = _serialize(tensors)
    described.files.add(path=WEIGHTS, size_bytes=len(weights), sha256=_sha256(weights))
    descriptor = described.SerializeToString(deterministic=True)
    if len(descriptor) > MAX_DESCRIPTOR_BYTES:
        raise ArtifactError(
            f"the descriptor takes {len(descriptor)} bytes; at most {MAX_DESCRIPTOR_BYTES} are "
            "read back: shorten model.config_json, the metrics or the signature"
        )
    digest_line = f"{_sha256(descriptor)}  {DESCRIPTOR}\n".encode()
    contents = {WEIGHTS: weights, DESCRIPTOR: descriptor, DIGEST: digest_line}
    try:
        _write_directory(directory, contents)
    except (OSError, ValueError) as error:  # ValueError: no path can hold a NUL
        raise ArtifactError(
            f"cannot publish to {directory}: {getattr(error, 'strerror', None) or error}; "
            "choose a directory that is new or empty and can be written"
        ) from error
    return described


def read_descriptor(directory: Path) -> VerifiedDescriptor:
    """Reads the descriptor of an artifact, and no weights.

    Raises:
        ArtifactError: no artifact there, the descriptor is corrupt or states something against the
            schema, or a file is missing, unlisted, not a plain file, or of another size than
            recorded. Whether its bytes are those recorded, `load` tells.
    """
    found = _plain_files(directory)
    for name in (DIGEST, DESCRIPTOR):
        if name not in found:
            raise ArtifactError(f"no artifact at {directory}: {name} is missing")

    line = _DIGEST_LINE.fullmatch(_read(directory / DIGEST, MAX_DESCRIPTOR_BYTES))
    if line is None:
        raise _corrupt(directory / DIGEST, "it is not '<64 hexadecimal digits>  artifact.pb'")
    digest = line[1].decode()
    descriptor = _read(directory / DESCRIPTOR, MAX_DESCRIPTOR_BYTES)
    _verify(directory / DESCRIPTOR, descriptor, digest)
    artifact = _parse(directory, descriptor)

    listed = {file.path for file in artifact.files}
    _compare_files(directory, found - {DIGEST, DESCRIPTOR}, listed)
    for file in artifact.files:
        _compare_size(directory / file.path, file.size_bytes)
    if WEIGHTS not in listed:
        raise ArtifactError(f"no artifact at {directory}: its descriptor lists no {WEIGHTS}")
    return VerifiedDescriptor(artifact, directory, digest)


def load(directory: Path) -> LoadedArtifact:
    """Reads an artifact whole; the bytes that were verified are the bytes that are parsed.

    Raises:
        ArtifactError: as `read_descriptor`, or a file has another digest than recorded, or the
            weights are not in safetensors' format.
    """
    artifact, _, digest = read_descriptor(directory)
    verified = {file.path: _read_verified(directory, file) for file in artifact.files}
    try:
        tensors = safetensors.numpy.load(verified[WEIGHTS])
    except (safetensors.SafetensorError, KeyError) as error:
        raise _corrupt(directory / WEIGHTS, f"not safetensors with numpy types: {error}") from error
    return LoadedArtifact(artifact, tensors, directory, digest)


def _serialize(tensors: Mapping[str, np.ndarray]) -> bytes:
    if not tensors:
        raise ArtifactError("there are no tensors to publish; pass the model's weights")
    for name, tensor in tensors.items():
        _check_tensor(name, tensor)
    # safetensors copies the memory behind an array and ignores its strides.
    try:
        return safetensors.numpy.save({n: np.asarray(t, order="C") for n, t in tensors.items()})
    except safetensors.SafetensorError as error:  # names and shapes of more than 100 MB
        raise ArtifactError(
            f"the tensors cannot be stored: {error}; shorten their names"
        ) from error


def _check_tensor(name: str, tensor: np.ndarray) -> None:
    """Refuses what safetensors would take, or fail on, and not read back the same."""
    if not isinstance(name, str):
        raise ArtifactError(f"tensor name {name!r} is a {type(name).__name__}; expected a string")
    shown = repr(name) if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]!r}..."
    if name == _RESERVED_NAME:
        raise ArtifactError(f"tensor {shown}: safetensors reserves that name; choose another")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ArtifactError(
            f"tensor {shown}: the name is not UTF-8 text ({error.reason}); choose another"
        ) from error
    # A mask would be lost.
    if not isinstance(tensor, np.ndarray) or isinstance(tensor, np.ma.MaskedArray):
        raise ArtifactError(
            f"tensor {shown} is a {type(tensor).__module__}.{type(tensor).__qualname__}; "
            "expected a numpy array"
        )
    if tensor.dtype.name not in _WEIGHT_DTYPES:
        raise ArtifactError(
            f"tensor {shown} is {tensor.dtype}; expected one of {sorted(_WEIGHT_DTYPES)}"
        )


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


def _write_directory(directory: Path, contents: Mapping[str, bytes]) -> None:
    # The rename at the end is what decides; this spares the writing, and says more.
    require_free(directory)
    try:
        with new_directory(directory) as assembled:
            for name, content in contents.items():
                (assembled / name).write_bytes(content)
    except FileExistsError as error:
        raise PlaceTakenError(
            f"cannot publish to {directory}: {error.strerror}; choose a new directory"
        ) from error


def _plain_files(directory: Path) -> set[str]:
    """Relative paths of all files below `directory`; refuses links, sockets and the like."""
    found = set()
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
                    raise _corrupt(path, "it is neither a plain file nor a directory")
    except OSError as error:
        raise ArtifactError(f"cannot read {directory}: {error.strerror}") from error
    return found


def _raise(error: OSError) -> None:
    raise error


def _parse(directory: Path, descriptor: bytes) -> artifact_pb2.Artifact:
    try:
        artifact = artifact_pb2.Artifact.FromString(descriptor)
    except DecodeError as error:
        raise _corrupt(directory / DESCRIPTOR, "it is not an Artifact message") from error
    try:
        check(artifact)
    except ArtifactError as error:
        raise _corrupt(directory / DESCRIPTOR, str(error)) from error
    return artifact


def _compare_files(directory: Path, found: set[str], listed: set[str]) -> None:
    if missing := sorted(listed - found):
        raise ArtifactError(f"artifact {directory} is incomplete: {', '.join(missing)} missing")
    if unlisted := sorted(found - listed):
        raise ArtifactError(
            f"artifact {directory} holds files that it does not list: {', '.join(unlisted)}; "
            "remove them or publish again"
        )


def _compare_size(path: Path, expected_bytes: int) -> None:
    size_bytes = path.stat().st_size
    if size_bytes != expected_bytes:
        raise _corrupt(path, f"expected {expected_bytes} bytes, found {size_bytes}")


def _read_verified(directory: Path, file: artifact_pb2.File) -> bytes:
    path = directory / file.path
    content = _read(path, file.size_bytes)
    _verify(path, content, file.sha256)
    return content


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > max_bytes:
        raise _corrupt(path, f"it is larger than {max_bytes} bytes")
    return content


def _verify(path: Path, content: bytes, expected: str) -> None:
    actual = _sha256(content)
    if actual != expected:
        raise _corrupt(path, f"expected SHA-256 {expected}, found {actual}")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _corrupt(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(f"{path} is corrupt: {reason}; restore it or publish again")
