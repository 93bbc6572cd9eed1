"""A publisher that is killed, wherever that may be, leaves nothing visible or all of it.

The oracle is what a store holds in which the same was published by nobody who was killed.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import boto3
import pytest

from registry.artifact import load
from registry.errors import NotFoundError
from registry.store.store import open_store
from registry.store.testing.artifacts import write_artifact
from registry.store.testing.contents import keys_of, uploads_of
from registry.store.testing.kills import requests_run_to_their_end, runs_to_its_end
from registry.store.testing.s3_server import BUCKET, s3_server

# Those of a publish, with room to spare: a loop that never ends is a failure and no timeout.
MAX_OPERATIONS = 1000

EVERYTHING = timedelta(0)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artifact(tmp_path_factory.mktemp("artifact") / "artifact")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


def publish(url: str, artifact: Path, version: str) -> None:
    open_store(url).publish(artifact, version=version, by="ada")


def sign(directory: Path) -> None:
    (directory / "signatures").mkdir()
    (directory / "signatures" / "0123456789abcdef.sig").write_bytes(b"signature")


def publish_signed(url: str, artifact: Path, version: str) -> None:
    open_store(url).publish(artifact, version=version, by="ada", sign=sign)


def versions(url: str, cache: Path) -> list[str]:
    """Reads every version that is visible, whole, as any reader would."""
    store = open_store(url, cache)
    try:
        found = store.versions("digits")
    except NotFoundError:
        return []
    for version in found:
        assert load(store.fetch(version.digest)).artifact.version == version.version
    return [version.version for version in found]


def clean(url: str) -> None:
    """Removes garbage, if a store came to be."""
    store = open_store(url)
    try:
        found = store.garbage(EVERYTHING)
    except NotFoundError:
        return
    assert all(store.remove(piece) for piece in found)
    assert store.garbage(EVERYTHING) == []


def look(url: str, cache: Path, before: list[str], version: str, keys: dict[str, set[str]]) -> str:
    """Checks what a killed publisher left; returns whether that was "nothing" or "all".

    Args:
        url: Of the store.
        cache: For readers.
        before: The versions that had been there.
        version: The one that was being published.
        keys: What the store may hold once it was cleaned, if nothing or all was published.
    """
    seen = versions(url, cache)
    assert seen in (before, [*before, version])
    outcome = "nothing" if seen == before else "all"
    clean(url)
    kept = keys_of(url)
    if "registry.json" not in kept:  # it is no store yet, and nobody cleans there
        kept = {key for key in kept if not key.startswith(".partial-")} | {"registry.json"}
    assert kept == keys[outcome]
    assert versions(url, cache) == seen
    return outcome


def kill_everywhere(
    run: Callable[[Callable[[], object], int], bool],
    new_store: Callable[[int], str],
    task: Callable[[str], object],
    check: Callable[[str], str],
    keys: dict[str, set[str]],
) -> list[str]:
    """Kills a task at each of its operations, in a new store each; returns each outcome."""
    outcomes = []
    for last in range(1, MAX_OPERATIONS):
        url = new_store(last)
        if run(partial(task, url), last):
            assert check(url) == "all"
            return outcomes
        outcomes.append(check(url))
        # Whoever comes next finds nothing in the way, and afterwards all is there.
        task(url)
        clean(url)
        assert keys_of(url) == keys["all"]
    raise AssertionError(f"more than {MAX_OPERATIONS} operations")


def oracle(url: str, artifact: Path, task: Callable[[str], object]) -> dict[str, set[str]]:
    before = keys_of(url) | {"registry.json"}
    task(url)
    return {"nothing": before, "all": keys_of(url)}


@pytest.mark.parametrize("is_first", [True, False], ids=["new-store", "second-version"])
def test_killed_at_any_operation_on_files(
    artifact: Path, tmp_path: Path, is_first: bool, record_property: Callable[[str, object], None]
) -> None:
    template = tmp_path / "template"
    before = [] if is_first else ["1.0.0"]
    for version in before:
        publish(str(template), artifact, version)

    def new_store(last: int) -> str:
        copy = tmp_path / f"store-{last}"
        if template.exists():
            shutil.copytree(template, copy)
        return str(copy)

    def task(url: str) -> None:
        publish_signed(url, artifact, "1.0.1")

    keys = oracle(new_store(0), artifact, task)
    outcomes = kill_everywhere(
        runs_to_its_end,
        new_store,
        task,
        lambda url: look(url, tmp_path / "cache", before, "1.0.1", keys),
        keys,
    )
    record_property("kills", len(outcomes))
    record_property("nothing", outcomes.count("nothing"))
    record_property("all", outcomes.count("all"))
    # It was nothing up to one moment, and all of it ever after.
    assert outcomes == sorted(outcomes, reverse=True)
    assert set(outcomes) == {"nothing", "all"}


def test_killed_at_any_request(
    artifact: Path,
    tmp_path: Path,
    server: str,
    record_property: Callable[[str, object], None],
) -> None:
    def new_store(last: int) -> str:
        digest = hashlib.sha256(f"{tmp_path}{last}".encode()).hexdigest()[:16]
        return f"s3://{BUCKET}/{digest}"

    def task(url: str) -> None:
        publish_signed(url, artifact, "1.0.1")

    keys = oracle(new_store(0), artifact, task)
    outcomes = kill_everywhere(
        requests_run_to_their_end,
        new_store,
        task,
        lambda url: look(url, tmp_path / "cache", [], "1.0.1", keys),
        keys,
    )
    record_property("kills", len(outcomes))
    record_property("nothing", outcomes.count("nothing"))
    record_property("all", outcomes.count("all"))
    # The last request that changes something is the one that publishes.
    assert set(outcomes) == {"nothing"}


def test_uploads_in_parts_that_were_begun_are_garbage(artifact: Path, server: str) -> None:
    url = f"s3://{BUCKET}/parts"
    publish(url, artifact, "1.0.0")
    whole = keys_of(url)
    boto3.client("s3").create_multipart_upload(Bucket=BUCKET, Key="parts/artifacts/x/y")
    (left,) = open_store(url).garbage(EVERYTHING)
    assert (left.stored.key, left.reason) == ("artifacts/x/y", "was never completed")
    assert uploads_of(url) == {"artifacts/x/y"}
    clean(url)
    assert uploads_of(url) == set()
    assert keys_of(url) == whole
