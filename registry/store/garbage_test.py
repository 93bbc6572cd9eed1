"""What is removed is what nobody needs, and evaluations stay with their artifact."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from registry.errors import ArtifactError, NotFoundError, StoreError
from registry.evaluation_example import write_example
from registry.store import publishing
from registry.store.opening import open_objects
from registry.store.store import Store, open_store
from registry.store.testing.artifacts import write_artifact
from registry.store.testing.contents import contents

EVERYTHING = timedelta(0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(tmp_path / "store")
    store.publish(write_artifact(tmp_path / "artifact"))
    return store


def leave_artifact(store: Store, directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Publishes up to the version's record, and no further; returns the artifact's digest."""

    def stop(*arguments: object) -> None:
        raise StoreError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(publishing.records, "create", stop)
        patch.setattr(publishing, "_withdraw", lambda *arguments: None)
        with pytest.raises(StoreError, match="stopped"):
            store.publish(directory, version="1.0.1")
    (left,) = store.garbage(EVERYTHING)
    return left.stored.key.removeprefix("artifacts/")


def write_evaluation(directory: Path, artifact_digest: str) -> str:
    """Writes an evaluation as a program that measures does; returns its digest."""
    digest = write_example(directory, artifact_digest=artifact_digest).digest
    (directory / "signatures").mkdir()
    (directory / "signatures" / "0123456789abcdef.sig").write_bytes(b"signature")
    return digest


def test_what_is_new_may_be_somebodys_work(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = leave_artifact(store, tmp_path / "artifact", monkeypatch)
    assert store.garbage() == []
    left = Path(store.url, "artifacts", digest)
    for path in [left, *left.iterdir()]:
        os.utime(path, (0, 0))
    (found,) = store.garbage()
    assert found.reason == "no version names this artifact"
    assert found.stored.size_bytes == sum(path.stat().st_size for path in left.iterdir())
    assert store.remove(found)
    assert not left.exists()
    assert store.remove(found)


def test_what_somebody_has_come_to_need_stays(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = leave_artifact(store, tmp_path / "artifact", monkeypatch)
    (found,) = store.garbage(EVERYTHING)
    assert store.publish(tmp_path / "artifact", version="1.0.1").digest == digest
    before = contents(store.url)
    assert not store.remove(found)
    # Even if nobody had written to it since it was found.
    stored = open_objects(store.url).measure(found.stored.key)
    assert stored is not None
    assert not store.remove(found._replace(stored=stored))
    assert contents(store.url) == before


def test_leftovers_of_writers_are_found_wherever_they_are(store: Store) -> None:
    before = contents(store.url)
    for key in (".partial-1", "artifacts/.partial-2", "evaluations/x/.partial-3"):
        Path(store.url, key).mkdir(parents=True)
        Path(store.url, key, "file").write_bytes(b"some")
    found = {piece.stored.key: piece for piece in store.garbage(EVERYTHING)}
    assert found.keys() == {".partial-1", "artifacts/.partial-2", "evaluations/x/.partial-3"}
    assert all(store.remove(piece) for piece in found.values())
    assert contents(store.url) == before


def test_an_evaluation_comes_back_whole(store: Store, tmp_path: Path) -> None:
    digest = store.resolve("digits").digest
    assert store.evaluations(digest) == []
    expected = write_evaluation(tmp_path / "evaluation", digest)
    assert store.add_evaluation(tmp_path / "evaluation") == expected
    assert store.add_evaluation(tmp_path / "evaluation") == expected
    assert store.evaluations(digest) == [expected]
    fetched = store.fetch_evaluation(digest, expected)
    assert contents(str(fetched)) == contents(str(tmp_path / "evaluation"))
    assert store.garbage(EVERYTHING) == []
    for wrong in ("0" * 64, "..", ""):
        with pytest.raises(NotFoundError):
            store.fetch_evaluation(digest, wrong)
        with pytest.raises(NotFoundError):
            store.evaluations(wrong)


@pytest.mark.parametrize("name", ["evaluation.pb", "evaluation.pb.sha256", "examples.safetensors"])
def test_refuses_an_evaluation_that_is_not_whole(store: Store, tmp_path: Path, name: str) -> None:
    write_evaluation(tmp_path / "evaluation", store.resolve("digits").digest)
    path = tmp_path / "evaluation" / name
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    with pytest.raises(ArtifactError, match="is corrupt"):
        store.add_evaluation(tmp_path / "evaluation")
    path.unlink()
    with pytest.raises(ArtifactError, match="missing|no evaluation at"):
        store.add_evaluation(tmp_path / "evaluation")


def test_refuses_an_evaluation_of_another_artifact(store: Store, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation", "0" * 64)
    with pytest.raises(NotFoundError, match="publish it there first"):
        store.add_evaluation(tmp_path / "evaluation")
