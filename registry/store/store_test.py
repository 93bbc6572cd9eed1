"""A store keeps what it was given, on the file system and in a bucket alike, by the same tests."""

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.artifact import load
from registry.errors import (
    ArtifactError,
    BadReferenceError,
    ConflictError,
    NotFoundError,
    SignatureChangedError,
    StoreError,
    VersionTakenError,
)
from registry.store import majors, publishing
from registry.store.objects import Objects
from registry.store.opening import open_objects
from registry.store.store import Store, open_store
from registry.store.testing.artifacts import write_artifact
from registry.store.testing.contents import contents
from registry.store.testing.s3_server import BUCKET, s3_server


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


@pytest.fixture
def store(url: str, tmp_path: Path) -> Store:
    return open_store(url, tmp_path / "cache")


@pytest.fixture
def objects(url: str) -> Objects:
    return open_objects(url)


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "artifact")


def test_a_published_artifact_comes_back_whole(store: Store, artifact: Path) -> None:
    before = contents(str(artifact))
    begun = datetime.now(UTC)
    version = store.publish(artifact, by="ada@lab")
    assert (version.name, version.version, version.published_by) == ("digits", "1.0.0", "ada@lab")
    assert begun <= version.published_at.ToDatetime(UTC) <= datetime.now(UTC)
    assert version.digest == load(artifact).digest
    assert contents(str(store.fetch(version.digest))) == before == contents(str(artifact))
    assert store.names() == ["digits"]
    assert store.versions("digits") == [version]
    described = store.descriptor(version.digest)
    assert described.artifact == load(artifact).artifact
    assert described.directory == store.fetch(version.digest)


def test_the_layout_is_as_documented(
    store: Store, url: str, objects: Objects, artifact: Path
) -> None:
    digest = store.publish(artifact).digest
    store.move_alias("digits", "candidate", "1.0.0")
    assert contents(url).keys() == {
        "registry.json",
        f"artifacts/{digest}/artifact.pb",
        f"artifacts/{digest}/artifact.pb.sha256",
        f"artifacts/{digest}/model.safetensors",
        "models/digits/versions/1.0.0.json",
        "models/digits/majors/1/00000001.json",
        "models/digits/aliases/candidate/00000001.json",
    }
    assert json.loads(objects.read("registry.json") or b"") == {"format": 1}
    record = json.loads(objects.read("models/digits/versions/1.0.0.json") or b"")
    assert record["digest"] == digest
    assert record.keys() == {"name", "version", "digest", "published_at", "published_by"}


def test_publishing_the_same_again_changes_nothing(store: Store, artifact: Path) -> None:
    first = store.publish(artifact, by="ada")
    assert store.publish(artifact, by="bob") == first
    assert store.publish(artifact, version="1.0.0") == first
    assert len(store.versions("digits")) == 1


def test_a_version_is_never_overwritten(store: Store, url: str, tmp_path: Path) -> None:
    first = store.publish(write_artifact(tmp_path / "a"), by="ada")
    before = contents(url)
    with pytest.raises(VersionTakenError, match=r"digits 1\.0\.0 is published already.* by ada"):
        store.publish(write_artifact(tmp_path / "b", salt=1))
    assert store.versions("digits") == [first]
    assert contents(url) == before


def test_a_version_that_is_asked_for_is_in_the_descriptor(store: Store, artifact: Path) -> None:
    version = store.publish(artifact, version="1.4.0-rc.1")
    loaded = load(store.fetch(version.digest))
    assert loaded.artifact.version == "1.4.0-rc.1"
    assert loaded.digest == version.digest != load(artifact).digest
    np.testing.assert_array_equal(loaded.tensors["weight"], load(artifact).tensors["weight"])


def test_bump_takes_the_next_version(store: Store, artifact: Path) -> None:
    bumps = ("minor", "patch", "minor", "patch", "major")
    published = [store.publish(artifact, bump=bump).version for bump in bumps]
    assert published == ["1.0.0", "1.0.1", "1.1.0", "1.1.1", "2.0.0"]
    assert [version.version for version in store.versions("digits")] == published


def test_refuses_versions_that_have_no_order_or_place(store: Store, artifact: Path) -> None:
    for version in ("1.0.0+build", "1.0", "../x", f"1.0.0-{'a' * 200}"):
        with pytest.raises(StoreError, match="expected a semantic version without build metadata"):
            store.publish(artifact, version=version)
    with pytest.raises(StoreError, match="give one of them"):
        store.publish(artifact, version="1.0.0", bump="major")
    with pytest.raises(StoreError, match="expected one of major, minor, patch"):
        store.publish(artifact, bump="build")  # type: ignore[arg-type]
    assert store.names() == []


def test_refuses_a_name_that_begins_a_digest(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="choose another name"):
        store.publish(write_artifact(tmp_path / "a", name="sha256"))


def test_refuses_what_is_corrupt(store: Store, url: str, artifact: Path) -> None:
    weights = artifact / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.safetensors is corrupt"):
        store.publish(artifact)
    assert contents(url).keys() == {"registry.json"}


def test_a_changed_signature_needs_a_new_major_version(store: Store, tmp_path: Path) -> None:
    store.publish(write_artifact(tmp_path / "ten"))
    other = write_artifact(tmp_path / "eleven", version="1.1.0", num_classes=11)
    expected = (
        r"digits 1\.1\.0 takes and returns image FP32 \[-1, 8, 8, 1\] -> logits FP32 \[-1, 11\], "
        r"but digits 1 image FP32 \[-1, 8, 8, 1\] -> logits FP32 \[-1, 10\]: a changed signature "
        r"needs a new major version"
    )
    with pytest.raises(SignatureChangedError, match=expected):
        store.publish(other)
    with pytest.raises(SignatureChangedError):
        store.publish(other, bump="patch")
    assert store.publish(other, bump="major").version == "2.0.0"
    # The rule is of each major version, and holds for what is published behind.
    store.publish(write_artifact(tmp_path / "zero", version="0.1.0"))
    with pytest.raises(SignatureChangedError):
        store.publish(other, version="0.9.0")
    assert [version.version for version in store.versions("digits")] == ["0.1.0", "1.0.0", "2.0.0"]


class Killed(BaseException):
    """Stands for the end of a process."""


def die(*arguments: object) -> None:
    raise Killed


def leave_major(store: Store, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishes up to where the major version is claimed, and no further."""
    with monkeypatch.context() as patch:
        patch.setattr(majors.Claim, "require_in_force", die)
        with pytest.raises(Killed):
            store.publish(directory)


def test_a_major_without_a_version_is_in_nobodys_way_for_long(
    store: Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ten = write_artifact(tmp_path / "ten")
    eleven = write_artifact(tmp_path / "eleven", num_classes=11)
    leave_major(store, ten, monkeypatch)
    assert store.names() == []
    # It may belong to a publisher that is at work.
    with pytest.raises(SignatureChangedError, match="as another publisher is about to publish"):
        store.publish(eleven)
    with monkeypatch.context() as patch:
        patch.setattr(majors, "ABANDONED_AFTER", timedelta(0))
        store.publish(eleven)
    assert contents(url).keys() >= {f"models/digits/majors/1/0000000{n}.json" for n in (1, 2)}
    # By now it is in force, however old it may be.
    monkeypatch.setattr(majors, "ABANDONED_AFTER", timedelta(0))
    with pytest.raises(SignatureChangedError):
        store.publish(ten, version="1.0.1")


def test_a_major_without_a_version_is_in_no_way_of_the_same_signature(
    store: Store, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_major(store, artifact, monkeypatch)
    assert store.publish(artifact, version="1.3.0").version == "1.3.0"


def test_a_publisher_that_took_too_long_publishes_nothing(
    store: Store, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(majors, "PUBLISH_WITHIN", timedelta(seconds=-1))
    with pytest.raises(ConflictError, match="nothing was published"):
        store.publish(artifact)
    assert store.names() == []


def test_interrupts_leave_nothing(
    store: Store, url: str, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish(artifact)
    before, beside = contents(url), sorted(artifact.parent.iterdir())

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.publish(artifact, bump="patch", sign=interrupt)
    for module, name in ((publishing.majors, "claim"), (publishing.records, "create")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                store.publish(artifact, bump="patch")
    assert contents(url) == before
    assert sorted(artifact.parent.iterdir()) == beside


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("digits", "2.1.0"),
        ("digits:1", "1.10.0"),
        ("digits:1.2", "1.2.1"),
        ("digits:1.2.0", "1.2.0"),
        ("digits:2", "2.1.0"),
        ("digits:3", "3.0.0-rc.1"),
        ("digits:3.0.0-rc.1", "3.0.0-rc.1"),
    ],
)
def test_references_resolve(many: Store, reference: str, expected: str) -> None:
    assert many.resolve(reference).version == expected


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with many versions of one model, of which 2.2.0 is archived, and one of another."""
    directory = tmp_path_factory.mktemp("many")
    store = open_store(directory / "store")
    artifact = write_artifact(directory / "artifact")
    for version in ("1.0.0", "1.2.0", "1.2.1", "1.10.0", "2.1.0", "2.2.0", "3.0.0-rc.1"):
        store.publish(artifact, version=version)
    store.publish(write_artifact(directory / "other", name="mnist"))
    store.archive("digits", "2.2.0")
    store.move_alias("digits", "staging", "1.2.0")
    return store


def test_digests_resolve(many: Store) -> None:
    for version in many.versions("digits"):
        for text in (version.digest, f"sha256:{version.digest}", f"sha256:{version.digest[:12]}"):
            assert many.resolve(text) == version


def test_aliases_and_archived_versions_resolve(many: Store) -> None:
    assert many.resolve("digits@staging").version == "1.2.0"
    assert many.resolve("digits:2.2.0").version == "2.2.0"
    with pytest.raises(
        NotFoundError, match=r"each version of digits that fits is archived: 2\.2\.0"
    ):
        many.resolve("digits:2.2")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("digit", r"no model 'digit'; did you mean 'digits'\? it has digits, mnist"),
        ("digits:4", r"no version of digits within 4; it has 3\.0\.0-rc\.1, 2\.2\.0, 2\.1\.0"),
        ("digits:1.2.9", r"no version '1\.2\.9' of digits; it has 3\.0\.0-rc\.1"),
        ("digits@champion", "no alias 'champion' of digits; it has staging"),
        ("sha256:000000000000", "no version whose digest begins with 000000000000"),
    ],
)
def test_what_is_not_there_is_answered_by_what_is(
    many: Store, reference: str, message: str
) -> None:
    with pytest.raises(NotFoundError, match=message):
        many.resolve(reference)


def test_what_no_version_names_does_not_resolve(
    store: Store, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish(artifact)
    monkeypatch.setattr(majors.Claim, "require_in_force", die)
    monkeypatch.setattr(publishing, "_withdraw", lambda *arguments: None)
    with pytest.raises(Killed):
        store.publish(artifact, version="1.0.1")
    (left,) = store.garbage(timedelta(0))
    digest = left.stored.key.removeprefix("artifacts/")
    for ask in (store.fetch, store.descriptor, store.resolve, store.evaluations):
        with pytest.raises(NotFoundError):
            ask(digest)
    assert store.remove(left)
    assert store.garbage(timedelta(0)) == []


def test_there_is_no_store_before_something_is_published(store: Store) -> None:
    for ask in (store.names, store.garbage, lambda: store.resolve("digits")):
        with pytest.raises(NotFoundError, match="there is no store at"):
            ask()


def test_refuses_a_place_that_holds_other_things(
    store: Store, url: str, objects: Objects, artifact: Path
) -> None:
    objects.create("thesis.tex", b"years of work")
    with pytest.raises(StoreError, match=r"holds 'thesis\.tex' and no registry\.json"):
        store.publish(artifact)
    assert contents(url).keys() == {"thesis.tex"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format": 2}', "says format 2, and this program knows format 1"),
        (b"[]", "restore it, or name another place"),
        (b"\xff", "restore it, or name another place"),
        (b"[" * 10**5, "restore it, or name another place"),
    ],
)
def test_refuses_another_format(
    store: Store, objects: Objects, artifact: Path, content: bytes, message: str
) -> None:
    objects.create("registry.json", content)
    for ask in (store.names, lambda: store.publish(artifact)):
        with pytest.raises(StoreError, match=message):
            ask()


RECORD = {"name": "digits", "version": "1.0.0", "digest": "0" * 64}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff{}",
        b"[" * 10**5,
        b"x" * (2**20 + 1),
        json.dumps(RECORD | {"surprise": 1}).encode(),
        json.dumps(RECORD | {"digest": 1}).encode(),
        json.dumps(RECORD | {"digest": "../../x"}).encode(),
        json.dumps(RECORD | {"version": "1.0.1"}).encode(),
        json.dumps(RECORD | {"name": "other"}).encode(),
        b'{"name": "digits", "name": "digits"}',
    ],
)
def test_refuses_records_that_are_none(many: Store, tmp_path: Path, content: bytes) -> None:
    copy = Path(shutil.copytree(many.url, tmp_path / "copy"))
    record = copy / "models/digits/versions/1.0.0.json"
    record.unlink()
    record.write_bytes(content)
    for ask in (lambda s: s.resolve("digits:1.0.0"), lambda s: s.versions("digits")):
        with pytest.raises(StoreError, match=r"1\.0\.0\.json"):
            ask(open_store(copy))
    assert open_store(copy).resolve("digits:2").version == "2.1.0"


def test_files_are_read_only_and_the_umask_holds(tmp_path: Path, artifact: Path) -> None:
    for umask, file_mode, directory_mode in ((0o022, 0o444, 0o755), (0o077, 0o400, 0o700)):
        root = tmp_path / f"{umask:o}"
        before = os.umask(umask)
        try:
            open_store(root).publish(artifact)
        finally:
            os.umask(before)
        modes: dict[bool, set[int]] = {True: set(), False: set()}
        for path in [root, *root.rglob("*")]:
            modes[path.is_dir()].add(stat.S_IMODE(path.stat().st_mode))
        assert modes == {True: {directory_mode}, False: {file_mode}}


def test_who_publishes_may_go_on_writing(local: Store, artifact: Path) -> None:
    digest = local.publish(artifact).digest
    weights = artifact / "model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    load(local.fetch(digest))


@pytest.mark.parametrize("failing", ["write", "link", "copy_file_range", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_full_disk_is_one_line_and_nothing_is_there(
    local: Store, artifact: Path, monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    local.publish(artifact)
    before = contents(local.url)

    def fail(*arguments: Any, **keywords: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(StoreError, match=os.strerror(number)) as raised:
            local.publish(artifact, bump="patch")
    assert "\n" not in str(raised.value)
    assert contents(local.url) == before
    assert local.publish(artifact, bump="patch").version == "1.0.1"


def test_copies_where_the_kernel_does_not(
    local: Store, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    assert contents(str(local.fetch(local.publish(artifact).digest))) == contents(str(artifact))
    # Or says that there was nothing to copy.
    monkeypatch.setattr(os, "copy_file_range", lambda *arguments: 0)
    assert load(local.fetch(local.publish(artifact, bump="minor").digest))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the store is ''"),
        ("ftp://host/models", "expected a path, file://PATH, s3://"),
        ("http://user:secret@host/x", "'http://host/x' is no store"),
        ("s3://", "expected a bucket and a prefix"),
        ("s3://key:secret@bucket/x", "credentials come from the environment"),
        ("s3://bucket/../other", "expected a bucket and a prefix"),
        ("file://host/models", "three slashes"),
        ("a\0b", "a NUL in it"),
    ],
)
def test_refuses_what_is_no_place(text: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as raised:
        open_store(text)
    assert "secret" not in str(raised.value)


def test_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="is a file; name a directory"):
        open_store(tmp_path / "file")
    with pytest.raises(StoreError, match="a file is in the way"):
        open_store(tmp_path / "file" / "below").publish(write_artifact(tmp_path / "artifact"))


def test_urls_of_files_are_paths(tmp_path: Path, artifact: Path) -> None:
    open_store(f"file://{tmp_path}/a%20store").publish(artifact)
    assert open_store(tmp_path / "a store").names() == ["digits"]


def test_a_bucket_that_is_not_there_is_said_to_be(server: str, artifact: Path) -> None:
    for ask in (Store.names, lambda store: store.publish(artifact)):
        with pytest.raises(StoreError, match="there is no bucket 'nowhere'"):
            ask(open_store("s3://nowhere/models"))


def test_credentials_that_are_missing_are_said_to_be(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        open_store(f"s3://{BUCKET}/models").names()


def test_add_signatures_adds_what_is_not_there(
    store: Store, objects: Objects, artifact: Path, tmp_path: Path
) -> None:
    digest = store.publish(artifact).digest
    signed = tmp_path / "signed"
    (signed / "signatures").mkdir(parents=True)
    (signed / "signatures" / "0123456789abcdef.sig").write_bytes(b"one")
    assert store.add_signatures(digest, signed) == ["0123456789abcdef.sig"]
    (signed / "signatures" / "0123456789abcdef.sig").write_bytes(b"other")
    (signed / "signatures" / "fedcba9876543210.sig").write_bytes(b"two")
    assert store.add_signatures(digest, signed) == ["fedcba9876543210.sig"]
    key = f"artifacts/{digest}/signatures"
    assert objects.read(f"{key}/0123456789abcdef.sig") == b"one"
    assert objects.read(f"{key}/fedcba9876543210.sig") == b"two"
    with pytest.raises(NotFoundError):
        store.add_signatures("0" * 64, signed)


def test_no_reference_leads_out_of_a_store(many: Store) -> None:
    for name in ("..", "../digits", "/etc", "digits/../digits", ""):
        with pytest.raises(NotFoundError):
            many.versions(name)
        with pytest.raises((BadReferenceError, NotFoundError)):
            many.resolve(name)
        with pytest.raises(NotFoundError):
            many.fetch(name)
