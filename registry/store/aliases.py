"""Aliases: names for versions, moved atomically, each with a log of its moves.

The moves of an alias are records of one sequence. To create the next one is to move the alias, and
since only one writer can, each move tells truly what the alias meant before.
"""

from collections.abc import Sequence
from typing import NamedTuple

from hpc.registry.v1 import registry_pb2

from registry.errors import BadReferenceError, ConflictError, NotFoundError, StoreError
from registry.store import keys, records
from registry.store.catalogue import listed, require_version, version_numbers
from registry.store.objects import Objects
from registry.store.references import is_name
from registry.store.waiting import wait_before

# What the mark that a version is archived is called in its moves.
ARCHIVED = "archived"

_MAX_ATTEMPTS = 1000


class Move(NamedTuple):
    """A move of an alias that is wanted; see `hpc.registry.v1.AliasMove`.

    Attributes:
        to_version: what it is to mean; None: it is to be removed.
        by: who moves it.
        reason: why.
        forced: whether gates were overridden.
        gates: what they said.
        after: the sequence number that the mover has seen last, 0 for none; None: any.
    """

    to_version: str | None
    by: str
    reason: str = ""
    forced: bool = False
    gates: Sequence[registry_pb2.GateResult] = ()
    after: int | None = None


def current(objects: Objects, name: str) -> dict[str, registry_pb2.AliasMove]:
    """Returns the last move of each alias of a model that means a version, by sorted alias."""
    known = [alias for alias in objects.names(keys.aliases(name)) if is_name(alias)]
    lasts = {alias: last(objects, keys.alias(name, alias)) for alias in known}
    return {alias: move for alias, move in lasts.items() if move is not None and move.to_version}


def last(objects: Objects, key: str) -> registry_pb2.AliasMove | None:
    """Reads the last move of a sequence; None: it has none."""
    number = records.highest(objects, key)
    if not number:
        return None
    where = keys.in_sequence(key, number)
    move = records.read(objects, where, registry_pb2.AliasMove)
    if move is None or move.sequence != number:
        raise StoreError(f"{objects.url}/{where} is not move {number}; restore it")
    return move


def meant_before(objects: Objects, key: str, move: registry_pb2.AliasMove) -> str | None:
    """Returns the version that an alias meant before it came to mean that of a move; None: none.

    Two movers to one version leave two moves, of which the second is from that version itself.
    """
    earlier: registry_pb2.AliasMove | None = move
    while earlier is not None and earlier.from_version == move.to_version:
        where = keys.in_sequence(key, earlier.sequence - 1)
        earlier = records.read(objects, where, registry_pb2.AliasMove)
    return (earlier.from_version or None) if earlier is not None else None


def require(objects: Objects, name: str, alias: str) -> registry_pb2.AliasMove:
    """Returns the last move of an alias that means a version.

    Raises:
        NotFoundError: It means none; those that do are named.
    """
    move = last(objects, keys.alias(name, alias)) if is_name(alias) else None
    if move is not None and move.to_version:
        return move
    known = listed(current(objects, name), "aliases")
    raise NotFoundError(f"{objects.url} has no alias {alias[:100]!r} of {name}; it has {known}")


def require_name(alias: str) -> None:
    """Checks that an alias can be called so.

    Raises:
        BadReferenceError: It cannot.
    """
    if not is_name(alias):
        raise BadReferenceError(
            f"{alias[:100]!r} can be no alias: expected lower-case letters and digits joined by "
            "single '.', '_' or '-', such as 'candidate'"
        )


def move(objects: Objects, name: str, alias: str, wanted: Move) -> registry_pb2.AliasMove:
    """Moves an alias, whatever the rules of stages say.

    Raises:
        NotFoundError: There is no such model or version, or an alias is to be removed that means
            none.
        ConflictError: It was moved after `wanted.after`.
    """
    require_name(alias)
    if wanted.to_version is None:
        require(objects, name, alias)
    return append(objects, name, alias, keys.alias(name, alias), wanted)


def append(
    objects: Objects, name: str, alias: str, key: str, wanted: Move
) -> registry_pb2.AliasMove:
    """Adds a move to the sequence at `key`; see `move`."""
    digest = ""
    if wanted.to_version is not None:
        digest = require_version(objects, name, wanted.to_version).digest
    for attempt in range(_MAX_ATTEMPTS):
        if attempt:
            wait_before(attempt)
        before = last(objects, key)
        number = 0 if before is None else before.sequence
        if wanted.after is not None and number != wanted.after:
            break
        record = registry_pb2.AliasMove(
            name=name,
            alias=alias,
            sequence=number + 1,
            from_version="" if before is None else before.to_version,
            to_version=wanted.to_version or "",
            to_digest=digest,
            moved_by=wanted.by,
            reason=wanted.reason,
            forced=wanted.forced,
            gates=wanted.gates,
        )
        record.moved_at.GetCurrentTime()
        if records.create(objects, keys.in_sequence(key, number + 1), record):
            return record
    raise ConflictError(
        f"{name}@{alias} was moved by someone else meanwhile: look what it means now, and try again"
    )


def moves(objects: Objects, name: str) -> list[registry_pb2.AliasMove]:
    """Returns all moves of a model's aliases, and all marks that versions are archived, by time."""
    sequences = [keys.alias(name, alias) for alias in objects.names(keys.aliases(name))]
    sequences += [
        keys.archived_version(name, number) for number in objects.names(keys.archived(name))
    ]
    wanted = [
        f"{key}/{found}"
        for key in sequences
        for found in objects.names(key)
        if keys.sequence(found) is not None
    ]
    found = records.read_many(objects, wanted, registry_pb2.AliasMove).values()
    # Of moves of one alias the sequence is the order, should a clock have been set back.
    return sorted(
        found, key=lambda move: (move.moved_at.ToNanoseconds(), move.alias, move.sequence)
    )


def archived(objects: Objects, name: str) -> set[str]:
    """Returns the versions of a model that are archived."""
    marked = set(objects.names(keys.archived(name)))
    published = version_numbers(objects, name) if marked else []
    return {
        number for number in published if number in marked and is_archived(objects, name, number)
    }


def is_archived(objects: Objects, name: str, number: str) -> bool:
    """Whether a version is archived."""
    mark = last(objects, keys.archived_version(name, number))
    return mark is not None and bool(mark.to_version)
