"""From a reference to the version that it means in a store now."""

from hpc.artifact.v1 import artifact_pb2
from hpc.registry.v1 import registry_pb2

from registry.errors import NotFoundError
from registry.store import aliases, catalogue, keys
from registry.store.descriptors import read_artifact
from registry.store.objects import Objects
from registry.store.references import (
    ByAlias,
    ByDigest,
    Exact,
    Newest,
    parse_reference,
)
from registry.store.versions import newest, within


def resolve(objects: Objects, text: str) -> registry_pb2.Version:
    """Returns the version that a reference means.

    Raises:
        BadReferenceError: It is no reference.
        NotFoundError: It means none, and which there are; or a digest means several.
    """
    match parse_reference(text):
        case Exact(name, version):
            return catalogue.require_version(objects, name, version)
        case ByAlias(name, alias):
            catalogue.require_name(objects, name)
            move = aliases.require(objects, name, alias)
            return catalogue.require_version(objects, name, move.to_version)
        case Newest(name, parts):
            return _newest(objects, name, parts)
        case ByDigest(digits):
            return _by_digest(objects, digits)


def by_digest(objects: Objects, digest: str) -> registry_pb2.Version | None:
    """Returns the version that names an artifact; None: no version does, or there is none."""
    artifact = read_artifact(objects, digest)
    return None if artifact is None else version_of(objects, artifact, digest)


def _newest(objects: Objects, name: str, parts: tuple[int, ...]) -> registry_pb2.Version:
    numbers = catalogue.version_numbers(objects, name)
    fitting = within(numbers, parts)
    archived = aliases.archived(objects, name) if fitting else set()
    found = newest(number for number in fitting if number not in archived)
    if found is not None:
        return catalogue.require_version(objects, name, found)
    catalogue.require_name(objects, name)
    if fitting:
        raise NotFoundError(
            f"each version of {name} that fits is archived: "
            f"{catalogue.listed(fitting, 'versions')}; name one of them in full"
        )
    within_parts = ".".join(map(str, parts))
    raise NotFoundError(
        f"{objects.url} has no version of {name} within {within_parts}; it has "
        f"{catalogue.listed(reversed(numbers), 'versions')}"
    )


def _by_digest(objects: Objects, digits: str) -> registry_pb2.Version:
    beginning = [found for found in objects.names(keys.ARTIFACTS) if found.startswith(digits)]
    versions = [by_digest(objects, digest) for digest in beginning]
    found = [version for version in versions if version is not None]
    if not found:
        raise NotFoundError(f"{objects.url} has no version whose digest begins with {digits}")
    if len(found) > 1:
        several = ", ".join(f"{version.name}:{version.version}" for version in found)
        raise NotFoundError(f"several digests begin with {digits}: {several}; give more digits")
    return found[0]


def version_of(
    objects: Objects, artifact: artifact_pb2.Artifact, digest: str
) -> registry_pb2.Version | None:
    """Returns the version that names an artifact; None: no version does."""
    version = catalogue.version(objects, artifact.name, artifact.version)
    return version if version is not None and version.digest == digest else None
