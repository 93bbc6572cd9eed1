"""A layer holds what it was given, and its bytes depend on nothing else; `tarfile` is judge."""

import gzip
import hashlib
import os
import tarfile
from pathlib import Path

import pytest

from infra.bazel.oci.archive import Entry, file_entry, write_layer

ENTRIES = [
    Entry("usr/bin/tool", b"#!/bin/sh\n", mode=0o755),
    Entry("usr/lib/libx.so", link="libx.so.1"),
    Entry("tmp", mode=0o1777),
    Entry("etc/name", b"value"),
]


def members(layer: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(layer, "r:gz") as archive:
        return {member.name: member for member in archive}


def test_a_layer_holds_files_links_and_the_directories_above_them(tmp_path: Path) -> None:
    write_layer(ENTRIES, tmp_path / "layer")
    found = members(tmp_path / "layer")
    assert [*found] == [
        *("etc", "etc/name", "tmp", "usr", "usr/bin", "usr/bin/tool"),
        *("usr/lib", "usr/lib/libx.so"),
    ]
    assert found["usr/bin/tool"].mode == 0o755
    assert found["tmp"].mode == 0o1777
    assert found["usr"].isdir()
    assert found["usr"].mode == 0o755
    assert found["usr/lib/libx.so"].linkname == "libx.so.1"
    with tarfile.open(tmp_path / "layer") as archive:
        content = archive.extractfile("etc/name")
        assert content is not None
        assert content.read() == b"value"


def test_nobody_owns_a_file_but_root_and_none_has_a_time(tmp_path: Path) -> None:
    write_layer(ENTRIES, tmp_path / "layer")
    for member in members(tmp_path / "layer").values():
        assert (member.uid, member.gid, member.mtime) == (0, 0, 0)
        assert (member.uname, member.gname) == ("", "")


def test_neither_order_nor_time_nor_place_makes_other_bytes(tmp_path: Path) -> None:
    for number, entries in enumerate((ENTRIES, ENTRIES[::-1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        source = folder / "source"
        source.write_bytes(b"content")
        os.utime(source, (number, number))
        write_layer([*entries, file_entry("opt/source", source)], folder / f"layer{number}")
    assert (tmp_path / "0/layer0").read_bytes() == (tmp_path / "1/layer1").read_bytes()


def test_digests_and_size_are_those_of_the_bytes(tmp_path: Path) -> None:
    written = write_layer(ENTRIES, tmp_path / "layer")
    compressed = (tmp_path / "layer").read_bytes()
    assert written.size == len(compressed)
    assert written.digest == hashlib.sha256(compressed).hexdigest()
    assert written.diff_digest == hashlib.sha256(gzip.decompress(compressed)).hexdigest()


def test_a_file_can_be_executed_if_its_source_can(tmp_path: Path) -> None:
    for mode, expected in ((0o700, 0o755), (0o600, 0o644), (0o555, 0o755), (0o444, 0o644)):
        source = tmp_path / "source"
        source.unlink(missing_ok=True)
        source.write_bytes(b"")
        source.chmod(mode)
        assert file_entry("x", source).mode == expected


def test_of_a_directory_that_comes_twice_the_last_mode_counts(tmp_path: Path) -> None:
    write_layer([Entry("run", mode=0o755), Entry("run", mode=0o1777)], tmp_path / "layer")
    assert members(tmp_path / "layer")["run"].mode == 0o1777


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([Entry("a", b"1"), Entry("a", b"2")], "a comes from two places"),
        ([Entry("a", b"1"), Entry("a")], "a comes from two places"),
        ([Entry("a", b"1"), Entry("a/b", b"2")], "a/b is below a, which is no directory"),
        ([Entry("/etc/passwd", b"")], "'/etc/passwd' is no path within a layer"),
        ([Entry("../etc/passwd", b"")], "no path within a layer"),
        ([Entry(".", b"")], "no path within a layer"),
    ],
)
def test_what_cannot_be_is_refused(entries: list[Entry], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_layer(entries, tmp_path / "layer")
