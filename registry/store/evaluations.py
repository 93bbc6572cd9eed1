"""Evaluations of artifacts, stored beside them by the digest of their message."""

from pathlib import Path

from registry.descriptor import SHA256, SIGNATURES
from registry.errors import NotFoundError, StoreError
from registry.evaluations import EXAMPLES, MESSAGE, read_evaluation
from registry.store import keys
from registry.store.objects import Objects
from registry.store.resolving import by_digest


def add(objects: Objects, directory: Path) -> str:
    """Stores an evaluation beside its artifact, with its signatures; returns its digest.

    Raises:
        ArtifactError: It is not whole.
        NotFoundError: No version of this store has its artifact.
    """
    given = read_evaluation(directory)
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
        if read_evaluation(staged).digest != given.digest:
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
