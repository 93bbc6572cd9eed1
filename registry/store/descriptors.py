"""Reads the descriptor of a stored artifact, and none of its other files."""

import hashlib

from google.protobuf.message import DecodeError
from hpc.artifact.v1 import artifact_pb2

from registry.descriptor import DESCRIPTOR, SHA256, check
from registry.errors import ArtifactError, StoreError
from registry.store import keys
from registry.store.objects import Objects


def read_artifact(objects: Objects, digest: str) -> artifact_pb2.Artifact | None:
    """Returns what an artifact says of itself; None: there is no such artifact, or not all of it.

    Args:
        objects: The store.
        digest: SHA-256 of the descriptor, which is verified.

    Raises:
        StoreError: The descriptor is not the one with that digest, or breaks a rule.
    """
    key = keys.artifact(digest)
    if not SHA256.fullmatch(digest):
        return None
    if objects.read(f"{key}/{keys.LAST_OF_ARTIFACT}") is None:
        return None
    content = objects.read(f"{key}/{DESCRIPTOR}")
    if content is None:
        return None
    where = f"{objects.url}/{key}/{DESCRIPTOR}"
    if hashlib.sha256(content).hexdigest() != digest:
        raise StoreError(f"{where} is corrupt: it has another SHA-256 than its place; restore it")
    try:
        artifact = artifact_pb2.Artifact.FromString(content)
        check(artifact)
    except (DecodeError, ArtifactError) as error:
        raise StoreError(f"{where} is corrupt: {error}; restore it") from error
    return artifact
