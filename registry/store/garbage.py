"""What no version and no reader needs: it is left by writers that were killed.

A writer that is at work has such things too. So only what nobody has touched for a while is
garbage, and each piece is looked at once more at the moment of its removal.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from registry.descriptor import SHA256
from registry.store import catalogue, evaluations, keys
from registry.store.objects import PARTIAL, Objects, Stored
from registry.store.references import is_name
from registry.store.resolving import by_digest
from registry.store.versions import within

# By default: longer than any upload takes.
GRACE = timedelta(hours=24)


class Garbage(NamedTuple):
    """Something to remove.

    Attributes:
        stored: what lies where.
        reason: why nobody needs it.
    """

    stored: Stored
    reason: str


def find(objects: Objects, older_than: timedelta) -> list[Garbage]:
    """Returns what can be removed, by key.

    Args:
        objects: The store.
        older_than: How long nobody may have written to it.
    """
    before = datetime.now(UTC) - older_than
    found = [*_artifacts(objects), *_evaluations(objects), *_majors(objects)]
    found += [Garbage(left, "was never completed") for left in objects.leftovers()]
    old = [garbage for garbage in found if garbage.stored.modified <= before]
    return sorted(old, key=lambda garbage: garbage.stored.key)


def remove(objects: Objects, garbage: Garbage) -> bool:
    """Removes a piece of garbage, unless somebody has come to need it; whether it is gone."""
    stored = garbage.stored
    if not stored.upload and not _is_partial(stored):
        now = objects.measure(stored.key)
        if now is None:
            return True
        if now.modified != stored.modified:
            return False
    return objects.remove(stored, _use(objects, stored.key))


def _is_partial(stored: Stored) -> bool:
    return stored.key.rpartition("/")[2].startswith(PARTIAL)


def _artifacts(objects: Objects) -> Iterator[Garbage]:
    # In this order: a publisher puts the artifact there before the version.
    placed = objects.names(keys.ARTIFACTS)
    named = {
        version.digest
        for name in catalogue.names(objects)
        for version in catalogue.versions(objects, name)
    }
    for digest in placed:
        if digest not in named and (stored := objects.measure(keys.artifact(digest))):
            yield Garbage(stored, "no version names this artifact")


def _evaluations(objects: Objects) -> Iterator[Garbage]:
    for artifact_digest in objects.names(keys.EVALUATIONS):
        is_named = _names_artifact(objects, artifact_digest)
        for digest in objects.names(keys.evaluations(artifact_digest)):
            is_whole = evaluations.is_whole(objects, artifact_digest, digest)
            if not is_named or not is_whole:
                stored = objects.measure(keys.evaluation(artifact_digest, digest))
                reason = "was never completed" if is_named else "no version names its artifact"
                if stored is not None:
                    yield Garbage(stored, reason)


def _majors(objects: Objects) -> Iterator[Garbage]:
    for name in objects.names(keys.MODELS):
        for number in objects.names(keys.majors(name)) if is_name(name) else ():
            key = f"{keys.majors(name)}/{number}"
            if _has_versions(objects, name, number):
                continue
            for record in objects.names(key):
                if (stored := objects.measure(f"{key}/{record}")) is not None:
                    yield Garbage(stored, f"{name} {number} has no version")


def _has_versions(objects: Objects, name: str, number: str) -> bool:
    if not (number.isascii() and number.isdigit()):
        return True
    return bool(within(catalogue.version_numbers(objects, name), (int(number),)))


def _names_artifact(objects: Objects, digest: str) -> bool:
    return SHA256.fullmatch(digest) is not None and by_digest(objects, digest) is not None


def _use(objects: Objects, key: str) -> Callable[[], bool]:
    """Returns what tells whether something is needed after all, once it may be out of sight."""
    match key.split("/"):
        case [keys.ARTIFACTS, digest] if SHA256.fullmatch(digest):
            named = catalogue.names(objects)
            return lambda: any(
                version.digest == digest
                for name in named
                for version in catalogue.versions(objects, name)
            )
        case [keys.MODELS, name, "majors", number, _]:
            return lambda: _has_versions(objects, name, number)
    return lambda: False
