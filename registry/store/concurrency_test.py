"""Writers and readers at the same moment, in processes of their own."""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from registry.artifact import load
from registry.errors import NotFoundError, StageError, VersionTakenError
from registry.store.stages import CANDIDATE, CHAMPION
from registry.store.store import open_store
from registry.store.testing.artifacts import write_artifact
from registry.store.testing.contents import contents
from registry.store.testing.processes import at_once
from registry.store.testing.s3_server import BUCKET, s3_server

# As many as the issue asks for; of the bucket's fewer, as one Python program answers all of them.
NUM_PUBLISHERS = {"local": 50, "s3": 8}
NUM_MOVERS = {"local": 20, "s3": 8}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["local", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store can be, in each kind of place."""
    if request.param == "local":
        return str(tmp_path / "store")
    request.getfixturevalue("server")
    return f"s3://{BUCKET}/{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]}"


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Artifacts of one model and version that differ in their weights."""
    directory = tmp_path_factory.mktemp("artifacts")
    return [write_artifact(directory / f"{i}", salt=i) for i in range(max(NUM_PUBLISHERS.values()))]


def few(numbers: dict[str, int], url: str) -> int:
    """Returns how many processes there are to be at such a place."""
    return numbers["s3" if url.startswith("s3:") else "local"]


def publish(url: str, artifact: Path, **how: str) -> tuple[str, str] | None:
    """Publishes an artifact; returns version and digest, or None if the version is taken."""
    try:
        version = open_store(url).publish(artifact, **how)  # type: ignore[arg-type]
    except VersionTakenError:
        return None
    return version.version, version.digest


class Reader:
    """Looks into a store again and again: what it sees is whole, and stays."""

    def __init__(self, url: str, cache: Path) -> None:
        self._store = open_store(url, cache)
        self._seen: dict[str, str] = {}

    def __call__(self) -> None:
        try:
            found = {each.version: each.digest for each in self._store.versions("digits")}
        except NotFoundError:
            assert not self._seen
            return
        assert found.items() >= self._seen.items()
        for version in found.keys() - self._seen.keys():
            loaded = load(self._store.fetch(found[version]))
            assert (loaded.artifact.version, loaded.digest) == (version, found[version])
        self._seen = found


def test_50_publishers_get_50_versions(url: str, artifacts: list[Path], tmp_path: Path) -> None:
    number = few(NUM_PUBLISHERS, url)
    tasks = [partial(publish, url, artifact, bump="patch") for artifact in artifacts[:number]]
    published = at_once(tasks, Reader(url, tmp_path / "reader"))
    expected = [f"1.0.{i}" for i in range(number)]
    assert sorted(version for version, _ in filter(None, published)) == sorted(expected)
    store = open_store(url, tmp_path / "cache")
    assert [version.version for version in store.versions("digits")] == expected
    assert {(each.version, each.digest) for each in store.versions("digits")} == set(published)
    # Each publisher's own weights are there once, and nothing that a loser of a race has left.
    salts = {
        int(load(store.fetch(digest)).tensors["salt"]) for _, digest in filter(None, published)
    }
    assert salts == set(range(number))
    kept = {key.split("/")[1] for key in contents(url) if key.startswith("artifacts/")}
    assert kept == {digest for _, digest in filter(None, published)}


def test_one_of_50_publishers_gets_a_version(
    url: str, artifacts: list[Path], tmp_path: Path
) -> None:
    tasks = [partial(publish, url, artifact) for artifact in artifacts[: few(NUM_PUBLISHERS, url)]]
    (winner,) = filter(None, at_once(tasks, Reader(url, tmp_path / "reader")))
    assert winner[0] == "1.0.0"
    kept = {key.split("/")[1] for key in contents(url) if key.startswith("artifacts/")}
    assert kept == {winner[1]}


def test_publishers_of_one_artifact_agree(url: str, artifacts: list[Path], tmp_path: Path) -> None:
    tasks = [partial(publish, url, artifacts[0])] * 8
    published = at_once(tasks, Reader(url, tmp_path / "reader"))
    assert len(set(published)) == 1


def test_publishers_of_one_artifact_who_bump_get_versions_of_their_own(
    url: str, artifacts: list[Path], tmp_path: Path
) -> None:
    tasks = [partial(publish, url, artifacts[0], bump="minor")] * 8
    published = at_once(tasks, Reader(url, tmp_path / "reader"))
    assert sorted(filter(None, published)) == sorted(set(filter(None, published)))
    assert {version for version, _ in filter(None, published)} == {f"1.{i}.0" for i in range(8)}


def test_of_two_signatures_a_major_version_gets_one(url: str, tmp_path: Path) -> None:
    sizes = [10, 11] * 4
    given = [
        write_artifact(tmp_path / f"{i}", version=f"1.{i}.0", num_classes=size)
        for i, size in enumerate(sizes)
    ]
    tasks = [partial(publish_or_refuse, url, artifact) for artifact in given]
    published = set(at_once(tasks)) - {None}
    sizes_published = {sizes[int(str(version).split(".")[1])] for version in published}
    assert len(sizes_published) == 1
    found = open_store(url).versions("digits")
    assert {version.version for version in found} == published


def publish_or_refuse(url: str, artifact: Path) -> str | None:
    from registry.errors import SignatureChangedError

    try:
        return open_store(url).publish(artifact).version
    except SignatureChangedError:
        return None


def move(url: str, alias: str, version: str) -> int:
    return int(open_store(url).move_alias("digits", alias, version, by=version).sequence)


def test_moves_of_an_alias_are_one_sequence(url: str, artifacts: list[Path]) -> None:
    for version in ("1.0.0", "1.1.0"):
        publish(url, artifacts[0], version=version)
    number = few(NUM_MOVERS, url)
    versions = ["1.0.0", "1.1.0"] * (number // 2)
    tasks = [partial(move, url, "staging", version) for version in versions]
    assert sorted(at_once(tasks)) == list(range(1, number + 1))
    moves = open_store(url).moves("digits")
    assert [move.sequence for move in moves] == list(range(1, number + 1))
    meant = [move.to_version for move in moves]
    assert [move.from_version for move in moves] == ["", *meant[:-1]]
    assert [move.moved_by for move in moves] == meant
    assert sorted(meant) == sorted(versions)
    assert open_store(url).resolve("digits@staging").version == meant[-1]


def promote_or_archive(url: str, action: str) -> bool:
    store = open_store(url)
    actions: dict[str, Callable[[], object]] = {
        "archive": lambda: store.archive("digits", "1.0.0"),
        "promote": lambda: store.promote("digits", "1.0.0"),
        "nominate": lambda: store.move_alias("digits", CANDIDATE, "1.0.0"),
    }
    try:
        actions[action]()
    except StageError:
        return False
    return True


@pytest.mark.parametrize("attempt", range(3))
def test_no_version_becomes_champion_and_archived_at_once(
    url: str, artifacts: list[Path], attempt: int
) -> None:
    publish(url, artifacts[attempt])
    at_once([partial(promote_or_archive, url, action) for action in ("archive", "promote") * 2])
    store = open_store(url)
    in_use = {alias for alias in store.aliases("digits") if alias in (CANDIDATE, CHAMPION)}
    assert not (in_use and store.archived("digits"))
