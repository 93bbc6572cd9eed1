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


def _last_in_force(objects: Objects, artifact: artifact_pb2.Artifact) -> tuple[int, bool]:
    """Returns the last record's number and whether it needs none after it; see `claim`."""
    number = parse(artifact.version).major
    key = keys.major(artifact.name, number)
    # Before the versions: who made it may publish meanwhile.
    sequence = records.highest(objects, key)
    record, is_recent = None, False
    if sequence:
        last = keys.in_sequence(key, sequence)
        record, is_recent = (
            records.read(objects, last, registry_pb2.Major),
            _is_recent(objects, last),
        )
    published = within(version_numbers(objects, artifact.name), (number,))
    if record is None:
        if published:
            raise StoreError(
                f"{objects.url} has {artifact.name} {published[0]}, and no signature of "
                f"{artifact.name} {number}: restore {key}"
            )
        return sequence, False
    if record.signature_digest == signature_digest(artifact):
        return sequence, bool(published) or is_recent
    if published or is_recent:
        claimed = "" if published else ", as another publisher is about to publish"
        raise SignatureChangedError(
            f"{artifact.name} {artifact.version} takes and returns {signature(artifact)}, but "
            f"{artifact.name} {number} {record.signature}{claimed}: a changed signature needs a "
            "new major version"
        )
    return sequence, False


def _is_recent(objects: Objects, key: str) -> bool:
    stored = objects.measure(key)
    return stored is not None and datetime.now(UTC) - stored.modified < ABANDONED_AFTER


def _tensors(tensors: Iterable[artifact_pb2.TensorSpec]) -> str:
    return ", ".join(
        f"{tensor.name} {tensor.datatype} [{', '.join(map(str, tensor.shape))}]"
        for tensor in tensors
    )
