"""Which models and versions a store has, as its records say."""

import difflib
from collections.abc import Collection, Iterable

from hpc.registry.v1 import registry_pb2

from registry.descriptor import SHA256
from registry.errors import NotFoundError, StoreError
from registry.store import keys, records
from registry.store.objects import Objects
from registry.store.references import is_name
from registry.store.versions import ascending, is_version

_MAX_LISTED = 10


def names(objects: Objects) -> list[str]:
    """Returns the sorted names of the models that have a version."""
    return [name for name in objects.names(keys.MODELS) if version_numbers(objects, name)]


def version_numbers(objects: Objects, name: str) -> list[str]:
    """Returns the published versions of a model, ascending; [] for a model that there is not."""
    if not is_name(name):
        return []
    stems = (keys.stem(found) for found in objects.names(keys.versions(name)))
    return ascending(stem for stem in stems if stem is not None and is_version(stem))


def version(objects: Objects, name: str, number: str) -> registry_pb2.Version | None:
    """Reads one version; None: it is not published.

    Raises:
        StoreError: Its record is not one, or is of something else.
    """
    if not is_name(name) or not is_version(number):
        return None
    key = keys.version(name, number)
    record = records.read(objects, key, registry_pb2.Version)
    return None if record is None else _checked(f"{objects.url}/{key}", record, name, number)


def versions(objects: Objects, name: str) -> list[registry_pb2.Version]:
    """Reads all versions of a model, ascending; see `version`."""
    numbers = version_numbers(objects, name)
    wanted = {number: keys.version(name, number) for number in numbers}
    found = records.read_many(objects, wanted.values(), registry_pb2.Version)
    return [
        _checked(f"{objects.url}/{key}", found[key], name, number)
        for number, key in wanted.items()
        if key in found
    ]


def require_name(objects: Objects, name: str) -> None:
    """Checks that a model has a version.

    Raises:
        NotFoundError: It has none; the models that have are named.
    """
    if version_numbers(objects, name):
        return
    known = names(objects)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise NotFoundError(
        f"{objects.url} has no model {name[:100]!r}; {hint}it has {listed(known, 'models')}"
    )


def require_version(objects: Objects, name: str, number: str) -> registry_pb2.Version:
    """Reads one version.

    Raises:
        NotFoundError: It is not published; those that are, are named.
    """
    found = version(objects, name, number)
    if found is not None:
        return found
    require_name(objects, name)
    known = version_numbers(objects, name)
    raise NotFoundError(
        f"{objects.url} has no version {number[:100]!r} of {name}; it has "
        f"{listed(reversed(known), 'versions')}"
    )


def listed(names: Iterable[str], what: str) -> str:
    """Returns names for a message: not more than a line's worth of them."""
    all_names: Collection[str] = list(names)
    shown = ", ".join(list(all_names)[:_MAX_LISTED])
    more = len(all_names) - _MAX_LISTED
    return f"{shown} and {more} more" if more > 0 else shown or f"no {what}"


def _checked(
    where: str, record: registry_pb2.Version, name: str, number: str
) -> registry_pb2.Version:
    if (record.name, record.version) != (name, number) or not SHA256.fullmatch(record.digest):
        raise StoreError(
            f"{where} does not say of {name} {number} which artifact it is; restore it"
        )
    return record
