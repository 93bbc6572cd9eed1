"""The rule that a changed signature needs a new major version, kept without a lock.

Two publishers may be about to publish the first versions of one major version, with different
signatures. So each makes a Major record first, under the next key of a sequence, and the last one
holds. A publisher may replace one of another signature only if it is of no use any more: no version
of that major version exists and it is older than ABANDONED_AFTER, since whoever made it publishes
within PUBLISH_WITHIN or not at all. What lies between the two is for clocks that differ. Whoever
publishes with the same signature as a publisher that was killed does not wait.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hpc.artifact.v1 import artifact_pb2
from hpc.registry.v1 import registry_pb2

from registry.errors import ConflictError, SignatureChangedError, StoreError
from registry.store import keys, records
from registry.store.catalogue import version_numbers
from registry.store.objects import Objects
from registry.store.versions import parse, within
from registry.store.waiting import wait_before

PUBLISH_WITHIN = timedelta(minutes=10)
ABANDONED_AFTER = timedelta(hours=1)

_MAX_ATTEMPTS = 1000


def signature_digest(artifact: artifact_pb2.Artifact) -> str:
    """Returns the SHA-256 of names, datatypes and shapes of inputs and outputs, in any order."""
    tensors = {
        field: sorted([tensor.name, tensor.datatype, list(tensor.shape)] for tensor in of_field)
        for field, of_field in (("inputs", artifact.inputs), ("outputs", artifact.outputs))
    }
    return hashlib.sha256(json.dumps(tensors, sort_keys=True).encode()).hexdigest()


def signature(artifact: artifact_pb2.Artifact) -> str:
    """Returns a signature for people: `image FP32 [-1, 8, 8, 1] -> logits FP32 [-1, 10]`."""
    return f"{_tensors(artifact.inputs)} -> {_tensors(artifact.outputs)}"


def require_unchanged(objects: Objects, artifact: artifact_pb2.Artifact) -> None:
    """Checks that an artifact has the signature of its major version, if that has one.

    Raises:
        SignatureChangedError: It has another one.
    """
    _last_in_force(objects, artifact)


def claim(objects: Objects, artifact: artifact_pb2.Artifact) -> "Claim":
    """Has an artifact's signature be that of its major version, for a version that comes now.

    Raises:
        SignatureChangedError: The major version has another signature, or another publisher is
            about to give it one.
    """
    number = parse(artifact.version).major
    for attempt in range(_MAX_ATTEMPTS):
        if attempt:
            wait_before(attempt)
        made = Claim()
        sequence, in_force = _last_in_force(objects, artifact)
        if in_force:
            return made
        record = registry_pb2.Major(
            signature_digest=signature_digest(artifact),
            signature=signature(artifact),
            version=artifact.version,
        )
        key = keys.in_sequence(keys.major(artifact.name, number), sequence + 1)
        if records.create(objects, key, record):
            return made
    raise ConflictError(
        f"other publishers keep changing the signature of {artifact.name} {number}; try again"
    )


class Claim:
    """A signature of a major version that nobody replaces for a while."""

    def __init__(self) -> None:
        self._made_s = time.monotonic()

    def require_in_force(self) -> None:
        """Checks that it is time yet to publish.

        Raises:
            ConflictError: It is too late: another publisher may take this one for killed.
        """
        if time.monotonic() - self._made_s > PUBLISH_WITHIN.total_seconds():
            raise ConflictError(
                f"nothing was published: the store took more than {PUBLISH_WITHIN} to answer; "
                "try again"
            )


class _Found(NamedTuple):
    """The last record of a major version.

    Attributes:
        sequence: its number; 0: there is none.
        record: what it says; None: there is none.
        is_recent: whether its publisher may be at work.
        published: the versions of that major version.
    """

    sequence: int
    record: registry_pb2.Major | None
    is_recent: bool
    published: list[str]


def _last_in_force(objects: Objects, artifact: artifact_pb2.Artifact) -> tuple[int, bool]:
    """Returns the last record's number and whether it needs none after it; see `claim`."""
    number = parse(artifact.version).major
    found = _find(objects, artifact.name, number)
    if found.record is None and found.published:
        # A first version came between the two looks. Its record was there before it.
        found = _find(objects, artifact.name, number)
    if found.record is None:
        if found.published:
            raise StoreError(
                f"{objects.url} has {artifact.name} {found.published[0]}, and no signature of "
                f"{artifact.name} {number}: restore {keys.major(artifact.name, number)}"
            )
        return found.sequence, False
    holds = bool(found.published) or found.is_recent
    if found.record.signature_digest != signature_digest(artifact) and holds:
        claimed = "" if found.published else ", as another publisher is about to publish"
        raise SignatureChangedError(
            f"{artifact.name} {artifact.version} takes and returns {signature(artifact)}, but "
            f"{artifact.name} {number} {found.record.signature}{claimed}: a changed signature "
            "needs a new major version"
        )
    return found.sequence, holds


def _find(objects: Objects, name: str, number: int) -> _Found:
    key = keys.major(name, number)
    # Before the versions: who made the record may publish meanwhile, and then it holds.
    sequence = records.highest(objects, key)
    last = keys.in_sequence(key, sequence)
    record = records.read(objects, last, registry_pb2.Major) if sequence else None
    is_recent = record is not None and _is_recent(objects, last)
    return _Found(sequence, record, is_recent, within(version_numbers(objects, name), (number,)))


def _is_recent(objects: Objects, key: str) -> bool:
    stored = objects.measure(key)
    return stored is not None and datetime.now(UTC) - stored.modified < ABANDONED_AFTER


def _tensors(tensors: Iterable[artifact_pb2.TensorSpec]) -> str:
    return ", ".join(
        f"{tensor.name} {tensor.datatype} [{', '.join(map(str, tensor.shape))}]"
        for tensor in tensors
    )
