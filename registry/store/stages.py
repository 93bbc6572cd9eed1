"""Stages of a model's life: aliases with rules.

    candidate   one version, that is to be judged
    champion    one version, that is in use; set by `promote`
    previous    the champion before; set by `promote`
    archived    a mark of any number of versions, which `digits` and `digits:1` pass over

An archived version can be neither candidate nor champion, and those cannot be archived.
"""

from contextlib import suppress

from hpc.registry.v1 import registry_pb2

from registry.errors import ConflictError, StageError
from registry.store import aliases, keys
from registry.store.aliases import ARCHIVED, Move
from registry.store.catalogue import require_version
from registry.store.objects import Objects

CANDIDATE = "candidate"
CHAMPION = "champion"
PREVIOUS = "previous"

_IN_USE = (CANDIDATE, CHAMPION)


def require_movable(alias: str) -> None:
    """Checks that an alias can be moved to some version, but by promotion.

    Raises:
        BadReferenceError: No alias can be called so.
        StageError: It is the champion, or named as the mark is.
    """
    aliases.require_name(alias)
    if alias == ARCHIVED:
        raise StageError(
            f"{ARCHIVED!r} is a mark of any number of versions and no alias: archive the version"
        )
    if alias == CHAMPION:
        raise StageError(f"{CHAMPION} is moved by promote, which judges gates")


def move(objects: Objects, name: str, alias: str, wanted: Move) -> registry_pb2.AliasMove:
    """Moves an alias if the rules let it; see `aliases.move`.

    Raises:
        StageError: A version would become champion without being promoted, or one that is archived
            candidate; or the alias is named as the mark is.
    """
    if alias != CHAMPION or wanted.to_version is not None:
        require_movable(alias)
    return _move(objects, name, alias, wanted)


def _move(objects: Objects, name: str, alias: str, wanted: Move) -> registry_pb2.AliasMove:
    if alias not in _IN_USE or wanted.to_version is None:
        return aliases.move(objects, name, alias, wanted)
    require_version(objects, name, wanted.to_version)
    _require_unarchived(objects, name, alias, wanted.to_version)
    moved = aliases.move(objects, name, alias, wanted)
    # Both sides write first and look afterwards, so that at least one of them sees the other.
    if aliases.is_archived(objects, name, wanted.to_version):
        with suppress(ConflictError):  # it means another version by now
            _take_back(objects, name, alias, moved)
        raise _is_archived(name, alias, wanted.to_version)
    return moved


def _take_back(objects: Objects, name: str, alias: str, moved: registry_pb2.AliasMove) -> None:
    """Has an alias mean what it did before a version that was archived meanwhile, or nothing.

    Raises:
        ConflictError: It was moved since.
    """
    before = aliases.meant_before(objects, keys.alias(name, alias), moved)
    if before is not None and aliases.is_archived(objects, name, before):
        before = None
    back = Move(before, moved.moved_by, "it was archived meanwhile", after=moved.sequence)
    taken = aliases.move(objects, name, alias, back)
    # As in `_move`: written first, looked at afterwards.
    if before is not None and aliases.is_archived(objects, name, before):
        _take_back(objects, name, alias, taken)


def promote(objects: Objects, name: str, wanted: Move) -> registry_pb2.AliasMove:
    """Makes a version the champion, the champion `previous`, and a candidate that it was none.

    Args:
        objects: The store.
        name: Of the model.
        wanted: The move of the champion; its gates were judged by the caller.

    Returns:
        The move of the champion, which is what is atomic; the other aliases follow it.

    Raises:
        StageError: The version is archived, or is the champion already.
        NotFoundError, ConflictError: See `aliases.move`.
    """
    before = aliases.last(objects, keys.alias(name, CHAMPION))
    if before is not None and before.to_version and before.to_version == wanted.to_version:
        raise StageError(f"{name} {wanted.to_version} is the {CHAMPION} already")
    moved = _move(objects, name, CHAMPION, wanted)
    if moved.from_version:
        follow = Move(moved.from_version, wanted.by, f"{wanted.to_version} became {CHAMPION}")
        aliases.move(objects, name, PREVIOUS, follow)
    candidate = aliases.last(objects, keys.alias(name, CANDIDATE))
    if candidate is not None and candidate.to_version == wanted.to_version:
        end = Move(None, wanted.by, f"it became {CHAMPION}", after=candidate.sequence)
        with suppress(ConflictError):  # it means another version by now, and may
            aliases.move(objects, name, CANDIDATE, end)
    return moved


def archive(objects: Objects, name: str, version: str, wanted: Move) -> registry_pb2.AliasMove:
    """Marks a version as archived; the mark that is there, if one is.

    Raises:
        NotFoundError: There is no such version.
        StageError: It is candidate or champion.
    """
    require_version(objects, name, version)
    key = keys.archived_version(name, version)
    marked = None
    while marked is None:
        _require_out_of_use(objects, name, version)
        before = aliases.last(objects, key)
        if before is not None and before.to_version:
            return before
        after = 0 if before is None else before.sequence
        mark = wanted._replace(to_version=version, after=after)
        with suppress(ConflictError):  # another one has archived it, or taken that back
            marked = aliases.append(objects, name, ARCHIVED, key, mark)
    try:
        _require_out_of_use(objects, name, version)
    except StageError:
        back = Move(None, wanted.by, "it came into use meanwhile", after=marked.sequence)
        with suppress(ConflictError):  # another one has taken it back
            aliases.append(objects, name, ARCHIVED, key, back)
        raise
    return marked


def unarchive(objects: Objects, name: str, version: str, wanted: Move) -> registry_pb2.AliasMove:
    """Takes the mark from a version.

    Raises:
        NotFoundError: There is no such version.
        StageError: It is not archived.
    """
    require_version(objects, name, version)
    key = keys.archived_version(name, version)
    before = aliases.last(objects, key)
    if before is None or not before.to_version:
        raise StageError(f"{name} {version} is not archived")
    return aliases.append(objects, name, ARCHIVED, key, wanted._replace(to_version=None))


def _require_unarchived(objects: Objects, name: str, alias: str, version: str) -> None:
    if aliases.is_archived(objects, name, version):
        raise _is_archived(name, alias, version)


def _is_archived(name: str, alias: str, version: str) -> StageError:
    return StageError(
        f"{name} {version} is archived and cannot become {alias}; un-archive it first"
    )


def _require_out_of_use(objects: Objects, name: str, version: str) -> None:
    for alias in _IN_USE:
        move = aliases.last(objects, keys.alias(name, alias))
        if move is not None and move.to_version == version:
            raise StageError(
                f"{name} {version} is the {alias} and cannot be archived; have another one be it, "
                "or remove the alias"
            )
