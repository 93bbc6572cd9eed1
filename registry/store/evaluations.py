"""Evaluations of artifacts, stored beside them by the digest of their message."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import DecodeError
from hpc.registry.v1 import registry_pb2

from registry.descriptor import SHA256, SIGNATURES
from registry.errors import NotFoundError, StoreError
from registry.store import keys
from registry.store.objects import MAX_READ_BYTES, Objects
from registry.store.resolving import by_digest

MESSAGE = "evaluation.pb"
EXAMPLES = "examples.safetensors"

_DIGEST_LINE = re.compile(rb"([0-9a-f]{64})  evaluation\.pb\n")
_BUFFER_BYTES = 2**20


class VerifiedEvaluation(NamedTuple):
    """An evaluation whose every byte was verified, and the digest that identifies it."""

    evaluation: registry_pb2.Evaluation
    digest: str


def add(objects: Objects, directory: Path) -> str:
    """Stores an evaluation beside its artifact, with its signatures; returns its digest.

    Raises:
        StoreError: It is not whole.
        NotFoundError: No version of this store has its artifact.
    """
    given = read(directory)
    artifact_digest = given.evaluation.artifact_digest
    if not SHA256.fullmatch(artifact_digest) or by_digest(objects, artifact_digest) is None:
        raise NotFoundError(
            f"{objects.url} has no version with the artifact that {directory} evaluates, "
            f"sha256:{artifact_digest[:12]}; publish it there first"
        )
    signatures = sorted((directory / SIGNATURES).glob("*.sig"))
    signed = [path.relative_to(directory).as_posix() for path in signatures]
    key = keys.evaluation(artifact_digest, given.digest)
    with objects.staging(directory) as staged:
        for path in (MESSAGE, keys.LAST_OF_EVALUATION, EXAMPLES, *signed):
            objects.stage_file(directory / path, staged / path)
        if read(staged).digest != given.digest:
            raise StoreError(f"{directory} changed while it was stored; try again")
        if not objects.add_directory(key, staged, keys.LAST_OF_EVALUATION):
            for path in signed:
                objects.create(f"{key}/{path}", (staged / path).read_bytes())
    return given.digest


def digests(objects: Objects, artifact_digest: str) -> list[str]:
    """Returns the sorted digests of the evaluations of an artifact that are whole."""
    return [
        digest
        for digest in objects.names(keys.evaluations(artifact_digest))
        if SHA256.fullmatch(digest) and is_whole(objects, artifact_digest, digest)
    ]


def is_whole(objects: Objects, artifact_digest: str, digest: str) -> bool:
    """Whether an evaluation is there with all of its files."""
    key = keys.evaluation(artifact_digest, digest)
    return objects.read(f"{key}/{keys.LAST_OF_EVALUATION}") is not None


def read(directory: Path) -> VerifiedEvaluation:
    """Reads an evaluation, and verifies the examples that belong to it.

    Raises:
        StoreError: A file is missing or is not the one that was written.
    """
    try:
        line = _DIGEST_LINE.fullmatch(_content(directory / keys.LAST_OF_EVALUATION))
        content = _content(directory / MESSAGE)
        examples = _sha256(directory / EXAMPLES)
    except OSError as error:
        raise StoreError(
            f"no evaluation at {directory}: {error.filename}: {error.strerror}"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if line is None or line[1].decode() != digest:
        raise _corrupt(directory / MESSAGE, f"its SHA-256 is not in {keys.LAST_OF_EVALUATION}")
    try:
        evaluation = registry_pb2.Evaluation.FromString(content)
    except DecodeError as error:
        raise _corrupt(directory / MESSAGE, "it is not an Evaluation message") from error
    if evaluation.examples_sha256 != examples:
        raise _corrupt(directory / EXAMPLES, f"its SHA-256 is not the one in {MESSAGE}")
    return VerifiedEvaluation(evaluation, digest)


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_READ_BYTES + 1)
    if len(content) > MAX_READ_BYTES:
        raise _corrupt(path, f"it has more than {MAX_READ_BYTES} bytes")
    return content


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while buffer := file.read(_BUFFER_BYTES):
            digest.update(buffer)
    return digest.hexdigest()


def _corrupt(path: Path, reason: str) -> StoreError:
    return StoreError(f"{path} is corrupt: {reason}; restore it, or evaluate again")
