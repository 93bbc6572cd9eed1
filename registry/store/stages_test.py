"""Aliases are logged moves, and stages keep their rules."""

from pathlib import Path

import pytest
from hpc.registry.v1 import registry_pb2

from registry.errors import BadReferenceError, ConflictError, NotFoundError, StageError
from registry.store import aliases, keys, stages
from registry.store.aliases import ARCHIVED, Move
from registry.store.local_objects import LocalObjects
from registry.store.store import Store, open_store
from registry.store.testing.artifacts import write_artifact


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with versions 1.0.0, 1.1.0 and 1.2.0 of one model."""
    store = open_store(tmp_path / "store")
    artifact = write_artifact(tmp_path / "artifact")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        store.publish(artifact, version=version)
    return store


def meanings(store: Store) -> dict[str, str]:
    return {alias: move.to_version for alias, move in store.aliases("digits").items()}


def test_a_move_says_who_when_from_and_to(store: Store) -> None:
    first = store.move_alias("digits", "staging", "1.0.0", by="ada", reason="to try it")
    assert (first.sequence, first.from_version, first.to_version) == (1, "", "1.0.0")
    assert first.to_digest == store.resolve("digits:1.0.0").digest
    assert (first.moved_by, first.reason) == ("ada", "to try it")
    second = store.move_alias("digits", "staging", "1.1.0", by="bob")
    assert (second.sequence, second.from_version) == (2, "1.0.0")
    removed = store.move_alias("digits", "staging", None, by="eve")
    assert (removed.from_version, removed.to_version, removed.to_digest) == ("1.1.0", "", "")
    assert store.moves("digits") == [first, second, removed]
    assert meanings(store) == {}
    with pytest.raises(NotFoundError, match="no alias 'staging' of digits; it has no aliases"):
        store.resolve("digits@staging")
    with pytest.raises(NotFoundError):
        store.move_alias("digits", "staging", None)
    assert store.move_alias("digits", "staging", "1.2.0").sequence == 4


def test_a_move_is_refused_if_another_came_before(store: Store) -> None:
    store.move_alias("digits", "staging", "1.0.0", after=0)
    with pytest.raises(ConflictError, match="was moved by someone else meanwhile"):
        store.move_alias("digits", "staging", "1.1.0", after=0)
    store.move_alias("digits", "staging", "1.1.0", after=1)
    assert meanings(store) == {"staging": "1.1.0"}


def test_only_a_promotion_makes_a_champion(store: Store) -> None:
    with pytest.raises(StageError, match="promote"):
        store.move_alias("digits", "champion", "1.0.0")
    store.promote("digits", "1.0.0")
    store.move_alias("digits", "champion", None)
    assert "champion" not in meanings(store)


@pytest.mark.parametrize("alias", ["", "Champion", "a/b", "..", "a@b", "a" * 64])
def test_refuses_what_can_be_no_alias(store: Store, alias: str) -> None:
    with pytest.raises(BadReferenceError, match="can be no alias"):
        store.move_alias("digits", alias, "1.0.0")


def test_refuses_versions_that_there_are_not(store: Store) -> None:
    for version in ("2.0.0", "1", "../1.0.0", ""):
        for act in (store.archive, store.unarchive, store.promote):
            with pytest.raises(NotFoundError):
                act("digits", version)
        with pytest.raises(NotFoundError):
            store.move_alias("digits", "staging", version)
    with pytest.raises(NotFoundError, match="no model 'digit'; did you mean 'digits'"):
        store.move_alias("digit", "staging", "1.0.0")


def test_promoting_moves_what_belongs_together(store: Store) -> None:
    store.move_alias("digits", "candidate", "1.0.0")
    store.promote("digits", "1.0.0")
    assert meanings(store) == {"champion": "1.0.0"}
    store.move_alias("digits", "candidate", "1.2.0")
    gate = registry_pb2.GateResult(gate="accuracy >= 0.98", detail="0.99, at least 0.98")
    moved = store.promote("digits", "1.1.0", reason="rush", forced=True, gates=[gate])
    # A candidate that is another version stays.
    assert meanings(store) == {"candidate": "1.2.0", "champion": "1.1.0", "previous": "1.0.0"}
    assert (moved.forced, moved.reason, list(moved.gates)) == (True, "rush", [gate])
    with pytest.raises(StageError, match=r"digits 1\.1\.0 is the champion already"):
        store.promote("digits", "1.1.0")
    # Going back is a promotion too.
    store.promote("digits", "1.0.0")
    assert meanings(store)["previous"] == "1.1.0"


def test_what_is_archived_is_passed_over_and_not_used(store: Store) -> None:
    marked = store.archive("digits", "1.2.0", by="ada", reason="leaks")
    assert (marked.alias, marked.to_version, marked.reason) == ("archived", "1.2.0", "leaks")
    assert store.archive("digits", "1.2.0") == marked
    assert store.archived("digits") == {"1.2.0"}
    assert store.resolve("digits").version == "1.1.0"
    assert store.resolve("digits:1.2.0").version == "1.2.0"
    with pytest.raises(StageError, match="is archived and cannot become candidate"):
        store.move_alias("digits", "candidate", "1.2.0")
    with pytest.raises(StageError, match="is archived and cannot become champion"):
        store.promote("digits", "1.2.0")
    back = store.unarchive("digits", "1.2.0")
    assert (back.from_version, back.to_version) == ("1.2.0", "")
    assert store.resolve("digits").version == "1.2.0"
    assert store.archived("digits") == set()
    with pytest.raises(StageError, match="is not archived"):
        store.unarchive("digits", "1.2.0")
    assert store.moves("digits") == [marked, back]


def test_what_is_in_use_is_not_archived(store: Store) -> None:
    store.promote("digits", "1.0.0")
    store.move_alias("digits", "candidate", "1.1.0")
    for version in ("1.0.0", "1.1.0"):
        with pytest.raises(StageError, match="cannot be archived; have another one be it"):
            store.archive("digits", version)
    assert store.archived("digits") == set()
    store.promote("digits", "1.1.0")
    store.archive("digits", "1.0.0")


@pytest.mark.parametrize(
    ("promoted", "archived", "champion"),
    [
        (["1.0.0"], ["1.1.0"], "1.0.0"),
        # Another one has promoted the same version, and is before this one.
        (["1.0.0", "1.1.0"], ["1.1.0"], "1.0.0"),
        ([], ["1.1.0"], None),
        (["1.1.0"], ["1.1.0"], None),
        (["1.0.0"], ["1.1.0", "1.0.0"], None),
        (["1.0.0", "1.1.0"], ["1.0.0", "1.1.0"], None),
    ],
)
def test_who_is_archived_while_it_is_promoted_is_not_champion(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    promoted: list[str],
    archived: list[str],
    champion: str | None,
) -> None:
    """Whoever promotes has looked already when the mark comes, and whoever archives as well."""
    objects = LocalObjects(tmp_path / "store")

    def mark(*_: object) -> None:
        for version in archived:
            key = keys.archived_version("digits", version)
            aliases.append(objects, "digits", ARCHIVED, key, Move(version, "eve"))

    for version in promoted:
        store.promote("digits", version)
    monkeypatch.setattr(stages, "_require_unarchived", mark)
    with pytest.raises(StageError, match="is archived and cannot become champion"):
        stages._move(objects, "digits", stages.CHAMPION, Move("1.1.0", "ada"))
    assert meanings(store).get("champion") == champion


def test_the_mark_is_no_alias(store: Store) -> None:
    with pytest.raises(StageError, match="archive the version"):
        store.move_alias("digits", "archived", "1.0.0")


def test_archived_versions_alone_are_said_to_be(store: Store) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        store.archive("digits", version)
    with pytest.raises(NotFoundError, match="each version of digits that fits is archived"):
        store.resolve("digits")
