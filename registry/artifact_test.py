"""Round trips are exact, publishing is all or nothing, and loading fails closed."""

import ctypes
import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hpc.artifact.v1 import artifact_pb2

from registry.artifact import (
    ArtifactError,
    LoadedArtifact,
    load,
    publish,
    read_descriptor,
    read_payload,
    verify,
)
from registry.example import example_artifact, example_tensors

FILES = ["artifact.pb", "artifact.pb.sha256", "model.safetensors"]

Read = Callable[[Path], object]


def load_mapped(directory: Path) -> LoadedArtifact:
    """Loads an artifact without reading the weights into memory."""
    return load(directory, mapped=True)


@pytest.fixture(params=[load, load_mapped, verify, read_descriptor])
def read(request: pytest.FixtureRequest) -> Read:
    """Each way to read an artifact: what is wrong about its files all find."""
    return request.param


@pytest.fixture(params=[load, load_mapped, verify])
def read_all(request: pytest.FixtureRequest) -> Read:
    """Each way that verifies every byte."""
    return request.param


@pytest.fixture
def published(tmp_path: Path) -> Path:
    directory = tmp_path / "artifact"
    publish(directory, example_artifact(), example_tensors())
    return directory


def rewrite_descriptor(directory: Path, edit: Callable[[artifact_pb2.Artifact], object]) -> None:
    """Edits a descriptor and fixes its digest, as an attacker without a signing key could."""
    artifact = artifact_pb2.Artifact.FromString((directory / "artifact.pb").read_bytes())
    edit(artifact)
    content = artifact.SerializeToString(deterministic=True)
    (directory / "artifact.pb").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    (directory / "artifact.pb.sha256").write_text(f"{digest}  artifact.pb\n")


def test_round_trip(published: Path) -> None:
    loaded = load(published)
    assert loaded.artifact.name == "digits"
    assert loaded.artifact.training_run == example_artifact().training_run
    assert loaded.directory == published
    assert loaded.tensors.keys() == example_tensors().keys()
    for name, expected in example_tensors().items():
        assert loaded.tensors[name].dtype == expected.dtype
        np.testing.assert_array_equal(loaded.tensors[name], expected)


def test_publish_returns_what_load_reads(tmp_path: Path) -> None:
    written = publish(tmp_path / "artifact", example_artifact(), example_tensors())
    assert load(tmp_path / "artifact").artifact == written


def test_records_size_and_digest_of_each_file(published: Path) -> None:
    assert sorted(path.name for path in published.iterdir()) == FILES
    (file,) = load(published).artifact.files
    content = (published / file.path).read_bytes()
    assert (file.path, file.size_bytes) == ("model.safetensors", len(content))
    assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_weights_are_plain_safetensors(published: Path) -> None:
    tensors = safetensors.numpy.load_file(published / "model.safetensors")
    np.testing.assert_array_equal(tensors["weight"], example_tensors()["weight"])


def test_digest_file_is_the_format_of_sha256sum(published: Path) -> None:
    digest = hashlib.sha256((published / "artifact.pb").read_bytes()).hexdigest()
    assert (published / "artifact.pb.sha256").read_text() == f"{digest}  artifact.pb\n"
    assert load(published).digest == digest


def test_same_content_gives_same_digest(tmp_path: Path) -> None:
    tensors = example_tensors()
    publish(tmp_path / "a", example_artifact(), tensors)
    publish(tmp_path / "b", example_artifact(), dict(reversed(tensors.items())))
    assert load(tmp_path / "a").digest == load(tmp_path / "b").digest


def test_config_is_made_canonical(tmp_path: Path) -> None:
    artifact = example_artifact()
    artifact.model.config_json = '{ "b": 1.0, "a": [9007199254740993] }'
    written = publish(tmp_path / "artifact", artifact, example_tensors())
    assert written.model.config_json == '{"a":[9007199254740993],"b":1.0}'


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("position", [0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("bit", [0, 5, 7])
def test_one_flipped_bit_is_found(
    published: Path, name: str, position: float, bit: int, read_all: Read
) -> None:
    path = published / name
    content = bytearray(path.read_bytes())
    content[round(position * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"is corrupt: .*restore it or publish again"):
        read_all(published)


def test_descriptor_is_read_and_verified_without_the_weights(published: Path) -> None:
    loaded = load(published)
    weights = published / "model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    assert read_descriptor(published) == (loaded.artifact, published, loaded.digest)

    flipped = bytearray((published / "artifact.pb").read_bytes())
    flipped[-1] ^= 1
    (published / "artifact.pb").write_bytes(flipped)
    with pytest.raises(ArtifactError, match=r"artifact\.pb is corrupt: expected SHA-256"):
        read_descriptor(published)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [-1, 1])
def test_truncated_or_extended_file_is_found(
    published: Path, name: str, change: int, read: Read
) -> None:
    content = (published / name).read_bytes()
    (published / name).write_bytes(content[:-1] if change < 0 else content + b"\0")
    with pytest.raises(ArtifactError, match=name):
        read(published)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(published: Path, name: str, read: Read) -> None:
    (published / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name}.* missing"):
        read(published)


@pytest.mark.parametrize("path", ["notes.txt", "deep/er/model.py"])
def test_unlisted_file_is_refused(published: Path, path: str, read: Read) -> None:
    (published / path).parent.mkdir(parents=True, exist_ok=True)
    (published / path).touch()
    with pytest.raises(ArtifactError, match=f"does not list: {path}"):
        read(published)


def test_random_bytes_of_the_weights_are_found(tmp_path: Path) -> None:
    random = np.random.default_rng(17)
    directory = tmp_path / "artifact"
    publish(directory, example_artifact(), {"w": random.standard_normal(50_000)})
    path = directory / "model.safetensors"
    size = path.stat().st_size
    with path.open("r+b") as file:
        for position in random.choice(size, 200, replace=False).tolist():
            file.seek(position)
            (byte,) = file.read(1)
            for content in (byte ^ (1 << int(random.integers(8))), byte):
                file.seek(position)
                file.write(bytes([content]))
                file.flush()
                if content == byte:
                    continue
                with pytest.raises(ArtifactError, match=r"model\.safetensors is corrupt"):
                    verify(directory)
    verify(directory)


@pytest.mark.parametrize("header", [b"{", b'{"w":{"dtype":"F8"}}', b'{"__metadata__":1}'])
def test_weights_that_are_not_safetensors_are_refused(
    published: Path, read_all: Read, header: bytes
) -> None:
    content = len(header).to_bytes(8, "little") + header
    (published / "model.safetensors").write_bytes(content)

    def edit(artifact: artifact_pb2.Artifact) -> None:
        artifact.files[0].size_bytes = len(content)
        artifact.files[0].sha256 = hashlib.sha256(content).hexdigest()

    rewrite_descriptor(published, edit)
    with pytest.raises(ArtifactError, match=r"model\.safetensors is corrupt: not safetensors"):
        read_all(published)


def test_mapped_weights_are_the_same_and_cannot_be_written(published: Path) -> None:
    mapped = load(published, mapped=True)
    for name, expected in load(published).tensors.items():
        np.testing.assert_array_equal(mapped.tensors[name], expected)
        with pytest.raises(ValueError, match="read-only"):
            mapped.tensors[name][...] = 0


def test_all_ways_to_read_say_the_same(published: Path) -> None:
    expected = load(published)
    for described in (load(published, mapped=True), verify(published), read_descriptor(published)):
        assert described.artifact == expected.artifact
        assert described.digest == expected.digest


def test_other_files_are_listed_and_verified(tmp_path: Path, read_all: Read) -> None:
    (tmp_path / "program").write_bytes(b"program" * 1_000_000)
    files = {"README.md": b"# digits\n", "programs/model": tmp_path / "program", "empty": b""}
    written = publish(tmp_path / "artifact", example_artifact(), example_tensors(), files)
    paths = ["README.md", "empty", "model.safetensors", "programs/model"]
    assert [file.path for file in written.files] == paths
    for file in written.files:
        content = (tmp_path / "artifact" / file.path).read_bytes()
        assert (file.size_bytes, file.sha256) == (
            len(content),
            hashlib.sha256(content).hexdigest(),
        )
        assert read_payload(verify(tmp_path / "artifact"), file.path) == content
    read_all(tmp_path / "artifact")

    (tmp_path / "artifact" / "README.md").write_bytes(b"# digits!")
    with pytest.raises(ArtifactError, match=r"README\.md is corrupt: expected SHA-256"):
        read_all(tmp_path / "artifact")
    with pytest.raises(ArtifactError, match=r"README\.md is corrupt: expected SHA-256"):
        read_payload(read_descriptor(tmp_path / "artifact"), "README.md")
    with pytest.raises(ArtifactError, match=r"lists no secret; it lists README\.md, empty"):
        read_payload(read_descriptor(tmp_path / "artifact"), "secret")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../a", "is refused; expected a relative path"),
        ("artifact.pb", "is no payload of an artifact"),
        ("signatures/a", "is no payload of an artifact"),
        ("model.safetensors", "written from the tensors"),
        ("Model.safetensors", "where both are one"),
    ],
)
def test_file_that_cannot_be_in_an_artifact_is_refused(
    tmp_path: Path, path: str, message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        publish(tmp_path / "artifact", example_artifact(), example_tensors(), {path: b""})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["absent", "directory", "link", "pipe"])
def test_source_that_is_no_plain_file_is_refused(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    make_special(source, kind)
    with pytest.raises(ArtifactError, match="source"):
        publish(tmp_path / "out" / "artifact", example_artifact(), example_tensors(), {"a": source})
    assert not (tmp_path / "out").exists()


SIGNATURE = "signatures/0123456789abcdef.sig"


def test_signatures_may_be_added_and_are_no_part_of_the_identity(
    published: Path, read: Read
) -> None:
    digest = read_descriptor(published).digest
    (published / SIGNATURE).parent.mkdir()
    (published / SIGNATURE).write_bytes(b"whatever")
    read(published)
    assert read_descriptor(published).digest == digest


@pytest.mark.parametrize(
    "path",
    [
        "signatures/0123456789ABCDEF.sig",
        "signatures/0123456789abcde.sig",
        "signatures/0123456789abcdef.sig.partial",
        "signatures/0123456789abcdef/a.sig",
        "signatures/a/0123456789abcdef.sig",
        "signatures",
        "0123456789abcdef.sig",
    ],
)
def test_what_is_no_signature_is_unlisted(published: Path, path: str, read: Read) -> None:
    (published / path).parent.mkdir(parents=True, exist_ok=True)
    (published / path).touch()
    with pytest.raises(ArtifactError, match=f"does not list: {path}"):
        read(published)


def test_more_signatures_or_files_than_any_artifact_has_are_refused(published: Path) -> None:
    (published / SIGNATURE).parent.mkdir()
    for index in range(65):
        (published / f"signatures/{index:016x}.sig").touch()
    with pytest.raises(ArtifactError, match="holds 65 signatures, at most 64 are read"):
        read_descriptor(published)
    for index in range(1100):
        (published / f"{index}").touch()
    with pytest.raises(ArtifactError, match="holds more than 1080 files, more than any has"):
        read_descriptor(published)


def make_special(path: Path, kind: str) -> None:
    """Makes what is no plain file; "absent": nothing."""
    match kind:
        case "directory":
            path.mkdir()
        case "link":
            path.symlink_to("/etc/hostname")
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as server, working_in(path.parent):
                server.bind(path.name)


@contextmanager
def working_in(directory: Path) -> Iterator[None]:
    """Works in a directory, since the name of a socket is short."""
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.mark.parametrize("kind", ["link", "pipe", "socket"])
@pytest.mark.parametrize("name", [*FILES, SIGNATURE, "signatures"])
def test_special_file_is_refused_and_not_waited_for(
    published: Path, name: str, kind: str, read: Read
) -> None:
    (published / name).unlink(missing_ok=True)
    (published / name).parent.mkdir(exist_ok=True)
    make_special(published / name, kind)
    with pytest.raises(ArtifactError, match="neither a plain file nor a directory"):
        read(published)


def test_hard_link_is_a_plain_file_that_is_verified(
    published: Path, tmp_path: Path, read_all: Read
) -> None:
    weights = published / "model.safetensors"
    os.link(weights, tmp_path / "also")
    read_all(published)
    # A link out to another file of that size.
    (tmp_path / "secret").write_bytes(bytes(weights.stat().st_size))
    weights.unlink()
    os.link(tmp_path / "secret", weights)
    with pytest.raises(ArtifactError, match=r"model\.safetensors is corrupt: expected SHA-256"):
        read_all(published)


def test_symlink_is_refused(published: Path, read: Read) -> None:
    weights = published / "model.safetensors"
    weights.rename(published.with_name("elsewhere"))
    weights.symlink_to(published.with_name("elsewhere"))
    with pytest.raises(ArtifactError, match="neither a plain file nor a directory"):
        read(published)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../b", "a//b", "./a", "", "a\\b"])
def test_path_outside_the_directory_is_refused(published: Path, path: str, read: Read) -> None:
    def edit(artifact: artifact_pb2.Artifact) -> None:
        artifact.files[0].path = path

    rewrite_descriptor(published, edit)
    with pytest.raises(ArtifactError, match="is refused; expected a relative path"):
        read(published)


def test_descriptor_is_checked_when_read_back(published: Path, read: Read) -> None:
    rewrite_descriptor(published, lambda artifact: artifact.ClearField("outputs"))
    with pytest.raises(ArtifactError, match=r"artifact\.pb is corrupt: outputs is empty"):
        read(published)


def test_artifact_without_weights_is_refused(published: Path, read: Read) -> None:
    rewrite_descriptor(published, lambda artifact: artifact.ClearField("files"))
    (published / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"lists no model\.safetensors"):
        read(published)


def test_directory_without_artifact_is_refused(tmp_path: Path, read: Read) -> None:
    with pytest.raises(ArtifactError, match=r"artifact\.pb\.sha256 is missing"):
        read(tmp_path)
    with pytest.raises(ArtifactError, match="no such directory"):
        read(tmp_path / "absent")


def test_a_directory_of_other_things_is_no_artifact_that_is_corrupt(
    tmp_path: Path, read: Read
) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match=r"no artifact at .*: artifact\.pb\.sha256 is missing"):
        read(tmp_path)
    (tmp_path / "artifact.pb.sha256").write_text("")
    with pytest.raises(ArtifactError, match=r"no artifact at .*: artifact\.pb is missing"):
        read(tmp_path)


def drop_capabilities() -> None:
    """Makes root one of those who may not read what its mode forbids (capset(2), version 3)."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, none) == 0


@pytest.mark.parametrize("unreadable", [".", *FILES, "deep"])
def test_what_cannot_be_read_is_named(
    published: Path, monkeypatch: pytest.MonkeyPatch, unreadable: str
) -> None:
    (published / "deep").mkdir()
    published.chmod(0o755)
    (published / unreadable).chmod(0)
    monkeypatch.chdir(published)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            drop_capabilities()
            load(Path("."))
        except ArtifactError as error:
            status = 0 if re.match("cannot read .*: Permission denied", str(error)) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
