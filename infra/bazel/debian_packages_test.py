"""Locks of Debian's packages: what is no lock is refused, and what Debian replaced is told."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from infra.bazel.debian_packages import (
    Apt,
    DebianError,
    Package,
    build_file,
    fetch,
    parse_lock,
    union,
)

OLD, NEW = b"an old package", b"its successor"


def package(name: str, version: str, content: bytes = OLD) -> Package:
    return Package(name, version, hashlib.sha256(content).hexdigest())


class Archive(Apt):
    """An archive of Debian that has one version of each package."""

    def __init__(self, has: dict[str, tuple[str, bytes]]) -> None:
        self.has = has

    def missing(self, packages: Sequence[tuple[str, str]]) -> set[str]:
        return {name for name, version in packages if self.has[name][0] != version}

    def newest(self, name: str) -> str:
        return self.has[name][0]

    def download(self, packages: Sequence[tuple[str, str]], folder: Path) -> dict[str, Path]:
        files = {}
        for name, version in packages:
            assert self.has[name][0] == version
            files[name] = folder / f"{name}_{version}_amd64.deb"
            files[name].write_bytes(self.has[name][1])
        return files


def test_a_lock_is_read_as_it_is_written() -> None:
    packages = [package("libc6", "2.36-9+deb12u10"), package("g++-12", "1:12.2.0-14")]
    text = "# a comment\n\n" + "".join(f"{one.line()}\n" for one in packages)
    assert parse_lock(text) == packages


@pytest.mark.parametrize(
    "line", ["libc6", "libc6 2.36", "libc6 2.36 sha256:12", "libc6 2.36 md5:" + "0" * 64, "A 1 x"]
)
def test_a_line_that_is_none_of_a_lock_is_named(line: str) -> None:
    good = package("libc6", "2.36").line()
    with pytest.raises(DebianError, match=f"line 2 of the lock is '{line}'; expected NAME VERS"):
        parse_lock(f"{good}\n{line}\n")


def test_what_several_locks_have_is_there_once() -> None:
    one, two, three = (package(name, "1") for name in ("one", "two", "three"))
    assert union([[one, two], [two, three]]) == [one, two, three]
    with pytest.raises(DebianError, match="do not agree on two: 1 and 2"):
        union([[one, two], [package("two", "2")]])


def test_each_lock_is_a_target() -> None:
    one, two = package("one", "1"), package("two", "1")
    text = build_file({"small": [one], "large": [two, one]})
    assert text.index('"large"') < text.index('"small"')
    assert text.count('"one.deb"') == 2
    assert text.count('"two.deb"') == 1


def test_locked_files_are_named_by_their_packages(tmp_path: Path) -> None:
    archive = Archive({"one": ("1", OLD)})
    assert fetch([package("one", "1")], archive, tmp_path, strict=True) == []
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("one.deb", OLD)]


def test_what_debian_replaced_is_taken_and_told_unless_it_must_not(tmp_path: Path) -> None:
    archive, locked = Archive({"one": ("2", NEW)}), [package("one", "1")]
    assert fetch(locked, archive, tmp_path, strict=False) == ["one: 2 replaces 1"]
    assert (tmp_path / "one.deb").read_bytes() == NEW
    with pytest.raises(DebianError, match="older than Debian's archive:\none: 2 replaces 1"):
        fetch(locked, archive, tmp_path, strict=True)


def test_another_file_of_the_same_version_is_refused(tmp_path: Path) -> None:
    archive = Archive({"one": ("1", NEW)})
    with pytest.raises(DebianError, match="one 1 has SHA-256 .*; the lock says"):
        fetch([package("one", "1")], archive, tmp_path, strict=False)
    assert not (tmp_path / "one.deb").exists()
