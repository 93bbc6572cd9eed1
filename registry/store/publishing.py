"""Publishing: an artifact is put in place, and then a record makes it a version.

    1. Its files are copied into a directory that no reader sees, and verified there.
    2. Version and signatures are written into that directory.
    3. The directory gets its place, by the digest of its descriptor. No version names it yet.
    4. The signature of its major version is claimed.
    5. The version's record is created, where none is: this is when all of it becomes visible.

Whoever is killed leaves what no version names, and the next publisher is not kept from anything.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from hpc.artifact.v1 import artifact_pb2
from hpc.registry.v1 import registry_pb2

from registry.artifact import VerifiedDescriptor, read_descriptor, verify
from registry.descriptor import DESCRIPTOR, DIGEST, SIGNATURES
from registry.errors import ConflictError, StoreError, VersionTakenError
from registry.store import catalogue, keys, majors, records
from registry.store.copying import write_new
from registry.store.objects import Objects, Stored
from registry.store.references import DIGEST_PREFIX
from registry.store.versions import Bump, check_version, following
from registry.store.waiting import wait_before

# More publishers of one model at the same moment than anyone has.
_MAX_ATTEMPTS = 1000


class Wanted(NamedTuple):
    """What a publisher asks for.

    Attributes:
        version: which version it is to be; None: its own, or the next one.
        bump: the part to raise for the next one; None: `version`, or its own.
        by: who publishes.
        sign: what signs a directory that is complete but for this; None: nothing.
    """

    version: str | None
    bump: Bump | None
    by: str
    sign: Callable[[Path], None] | None


class _Taken(NamedTuple):
    """The version that another publisher has made."""

    record: registry_pb2.Version


def publish(objects: Objects, directory: Path, wanted: Wanted) -> registry_pb2.Version:
    """Publishes an artifact; see `registry.store.store.Store.publish`."""
    if wanted.version is not None and wanted.bump is not None:
        raise StoreError("both a version and what to bump are given; give one of them")
    source = read_descriptor(directory)
    _check_name(source.artifact.name)
    if wanted.bump is None:
        check_version(wanted.version or source.artifact.version)
        _check_early(objects, source.artifact, wanted.version or source.artifact.version)
    with objects.staging(directory) as staged:
        _stage(objects, source, staged)
        for attempt in range(_MAX_ATTEMPTS):
            if attempt:
                wait_before(attempt)
            version = _next_version(objects, source.artifact, wanted)
            described = _describe(staged, source, version)
            outcome = _commit(objects, staged, described, wanted)
            if isinstance(outcome, registry_pb2.Version):
                return outcome
            if wanted.bump is None:
                raise _taken(outcome.record)
    raise ConflictError(f"others keep publishing versions of {source.artifact.name}; try again")


def _check_name(name: str) -> None:
    if name == DIGEST_PREFIX:
        raise StoreError(
            f"a store holds no model named {name!r}, which begins a digest; choose another name"
        )


def _check_early(objects: Objects, artifact: artifact_pb2.Artifact, version: str) -> None:
    """Refuses before anything is copied what will be refused: `_commit` decides."""
    described = artifact_pb2.Artifact()
    described.CopyFrom(artifact)
    described.version = version
    majors.require_unchanged(objects, described)


def _next_version(objects: Objects, artifact: artifact_pb2.Artifact, wanted: Wanted) -> str:
    if wanted.bump is None:
        return wanted.version or artifact.version
    return following(catalogue.version_numbers(objects, artifact.name), wanted.bump)


def _stage(objects: Objects, source: VerifiedDescriptor, staged: Path) -> None:
    """Copies an artifact with the signatures that it has, and verifies the copy."""
    signatures = sorted((source.directory / SIGNATURES).glob("*.sig"))
    paths = [DESCRIPTOR, DIGEST, *(file.path for file in source.artifact.files)]
    paths += [path.relative_to(source.directory).as_posix() for path in signatures]
    for path in paths:
        objects.stage_file(source.directory / path, staged / path)
    copied = verify(staged)
    if copied.digest != source.digest:
        raise StoreError(f"{source.directory} changed while it was published; try again")


def _describe(staged: Path, source: VerifiedDescriptor, version: str) -> VerifiedDescriptor:
    """Gives a staged artifact a version. Signatures of another descriptor are none of this one."""
    artifact = artifact_pb2.Artifact()
    artifact.CopyFrom(source.artifact)
    is_as_copied = (staged / DIGEST).read_text().startswith(source.digest)
    if artifact.version == version and is_as_copied:
        return VerifiedDescriptor(artifact, staged, source.digest)
    artifact.version = version
    content = artifact.SerializeToString(deterministic=True)
    digest = hashlib.sha256(content).hexdigest()
    # Removed, never written over: these files may have a second name in the store.
    shutil.rmtree(staged / SIGNATURES, ignore_errors=True)
    for name, text in ((DESCRIPTOR, content), (DIGEST, f"{digest}  {DESCRIPTOR}\n".encode())):
        (staged / name).unlink()
        write_new(staged / name, text)
    return VerifiedDescriptor(artifact, staged, digest)


def _commit(
    objects: Objects, staged: Path, described: VerifiedDescriptor, wanted: Wanted
) -> registry_pb2.Version | _Taken:
    artifact, _, digest = described
    found = catalogue.version(objects, artifact.name, artifact.version)
    if found is not None and not _is_same(found, digest, wanted):
        return _Taken(found)
    majors.require_unchanged(objects, artifact)
    if wanted.sign is not None:
        wanted.sign(staged)
    if found is not None:
        objects.add_directory(keys.artifact(digest), staged, keys.LAST_OF_ARTIFACT)
        add_signatures(objects, digest, staged)
        return found
    with _placed(objects, staged, described):
        claim = majors.claim(objects, artifact)
        record = registry_pb2.Version(
            name=artifact.name, version=artifact.version, digest=digest, published_by=wanted.by
        )
        record.published_at.GetCurrentTime()
        claim.require_in_force()
        key = keys.version(artifact.name, artifact.version)
        if records.create(objects, key, record):
            # Who removes what is old may have taken it for that, had it lain there for long.
            objects.add_directory(keys.artifact(digest), staged, keys.LAST_OF_ARTIFACT)
            return record
    found = catalogue.require_version(objects, artifact.name, artifact.version)
    return found if _is_same(found, digest, wanted) else _Taken(found)


def _is_same(found: registry_pb2.Version, digest: str, wanted: Wanted) -> bool:
    """Whether what is published is what was to be; who bumps wants a version of their own."""
    return found.digest == digest and wanted.bump is None


@contextmanager
def _placed(objects: Objects, staged: Path, described: VerifiedDescriptor) -> Iterator[None]:
    """Puts an artifact in its place; in the end removes it again unless a version names it."""
    key = keys.artifact(described.digest)
    # Until it is known that another publisher has put it there, who may be about to name it.
    is_ours = True
    placed = None
    try:
        is_ours = objects.add_directory(key, staged, keys.LAST_OF_ARTIFACT)
        if is_ours:
            placed = objects.measure(key)
        else:
            # Whoever is removing it sees that it is wanted, or else has removed it by now.
            objects.touch(key, keys.LAST_OF_ARTIFACT)
            objects.add_directory(key, staged, keys.LAST_OF_ARTIFACT)
            add_signatures(objects, described.digest, staged)
        yield
    finally:
        if is_ours:
            _withdraw(objects, described, placed)


def _withdraw(objects: Objects, described: VerifiedDescriptor, placed: Stored | None) -> None:
    """Removes an artifact that this publisher has put there, if no version names it.

    If its version is another artifact's by now, none ever will. If there is no such version, a
    publisher of the same artifact may be about to make it. That one has touched the artifact, and
    looks once more when it has made the version.

    Args:
        objects: The store.
        described: The artifact.
        placed: What was there when all of it was; None: not all of it was put there.
    """
    artifact, _, digest = described
    key = keys.artifact(digest)

    def is_used() -> bool:
        found = catalogue.version(objects, artifact.name, artifact.version)
        if found is not None:
            return found.digest == digest
        if placed is None:
            return objects.read(f"{key}/{keys.LAST_OF_ARTIFACT}") is not None
        return False

    # What interrupts a publisher, or refuses its writes, must not be hidden by what follows.
    with suppress(StoreError):
        found = catalogue.version(objects, artifact.name, artifact.version)
        stored = objects.measure(key)
        is_touched = placed is not None and found is None and stored != placed
        if stored is not None and not is_touched and not is_used():
            objects.remove(stored, is_used)


def add_signatures(objects: Objects, digest: str, directory: Path) -> list[str]:
    """Adds those signatures of a directory that an artifact does not have; returns their names."""
    added = []
    for path in sorted((directory / SIGNATURES).glob("*.sig")):
        key = f"{keys.artifact(digest)}/{SIGNATURES}/{path.name}"
        if objects.create(key, path.read_bytes()):
            added.append(path.name)
    return added


def _taken(record: registry_pb2.Version) -> VersionTakenError:
    return VersionTakenError(
        f"{record.name} {record.version} is published already, as another artifact, "
        f"sha256:{record.digest[:12]}, by {record.published_by}; versions never change: choose "
        "another version, or bump"
    )
