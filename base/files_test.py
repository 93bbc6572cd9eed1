"""Files and directories appear whole or not at all, and a rehearsal leaves no trace."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from base.files import make_directory, new_directory, rehearse_directory, replacing, write_file


def _write_old_and_new(path: Path, block: Callable[[], None]) -> None:
    write_file(path, b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new, which is longer")
        assert path.read_bytes() == b"old"
        block()


def test_a_file_is_replaced(tmp_path: Path) -> None:
    _write_old_and_new(tmp_path / "file", lambda: None)
    assert (tmp_path / "file").read_bytes() == b"new, which is longer"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def _raising(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_file_that_cannot_be_written_is_as_it_was(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        _write_old_and_new(tmp_path / "file", _raising(error))
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_has_its_name_only_once_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", _raising(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_file(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_the_old_file_and_room_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "file"
    pid = os.fork()
    if pid == 0:
        _write_old_and_new(path, lambda: os._exit(9))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert path.read_bytes() == b"old"
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def _write_tree(directory: Path) -> None:
    (directory / "a" / "b").mkdir(parents=True)
    for name in ("1", "a/2", "a/b/3"):
        (directory / name).write_text(name)


def _make_tree(path: Path, block: Callable[[], None]) -> None:
    with new_directory(path) as assembled:
        _write_tree(assembled)
        block()


@pytest.mark.parametrize("stands", [False, True])
def test_a_directory_appears_with_all_that_is_in_it(tmp_path: Path, stands: bool) -> None:
    path = tmp_path / "new" / "tree"
    if stands:
        path.mkdir(parents=True)
    with new_directory(path) as assembled:
        _write_tree(assembled)
        assert stands == path.exists()
    assert {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()} == {
        "1",
        "a/2",
        "a/b/3",
    }
    assert list((tmp_path / "new").iterdir()) == [path]


def test_all_of_a_directory_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fsync, flushed = tmp_path / "tree", os.fsync, []

    def note(descriptor: int) -> None:
        flushed.append((os.readlink(f"/proc/self/fd/{descriptor}"), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with new_directory(path) as assembled:
        _write_tree(assembled)
    expected = {f"{assembled}{below}" for below in ("", "/1", "/a", "/a/2", "/a/b", "/a/b/3")}
    assert {place for place, appeared in flushed if not appeared} == expected
    assert [place for place, appeared in flushed if appeared] == [str(tmp_path)]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("where", ["block", "fsync"])
def test_a_directory_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    fail = _raising(error)
    if where == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        _make_tree(tmp_path / "new" / "tree", fail if where == "block" else lambda: None)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tree"
    with pytest.raises(FileExistsError, match="not empty"):
        _make_tree(path, lambda: (path / "others").mkdir(parents=True))
    assert [file.name for file in tmp_path.rglob("*")] == ["tree", "others"]


def test_leaves_nothing(tmp_path: Path) -> None:
    rehearse_directory(tmp_path / "a" / "b" / "c")
    assert list(tmp_path.iterdir()) == []


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rehearse_directory(Path("a"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["file/a", "file/a/b", "nowhere/a", "x" * 300, "x" * 300 + "/a"])
def test_refuses_what_cannot_be_made(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    with pytest.raises(OSError, match="Not a directory|No such file|File name too long"):
        rehearse_directory(tmp_path / path)
    assert {found.name for found in tmp_path.iterdir()} == {"file", "nowhere"}


def test_rehearsals_at_once_do_not_see_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(rehearse_directory, [tmp_path / "missing" / "same"] * 200))
    assert list(tmp_path.iterdir()) == []


# Deeper than Python calls itself.
_DEEP = Path(*["a"] * 1500)


def test_rehearses_what_is_deep(tmp_path: Path) -> None:
    rehearse_directory(tmp_path / _DEEP)
    assert list(tmp_path.iterdir()) == []


def test_makes_a_directory_and_takes_it_back(tmp_path: Path) -> None:
    with ExitStack() as undo:
        make_directory(tmp_path / _DEEP, undo)
        assert (tmp_path / _DEEP).is_dir()
    assert list(tmp_path.iterdir()) == []


def test_keeps_what_it_did_not_make_or_others_use(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    with ExitStack() as undo:
        make_directory(tmp_path / "before" / "used" / "empty", undo)
        (tmp_path / "before" / "used" / "file").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["before", "used", "file"]


@pytest.mark.parametrize("name", ["x" * 300, "\0"], ids=["long", "NUL"])
def test_half_made_parents_are_taken_back(tmp_path: Path, name: str) -> None:
    refused = pytest.raises((OSError, ValueError), match="File name too long|null byte")
    with refused, ExitStack() as undo:
        make_directory(tmp_path / "a" / name / "out", undo)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with ExitStack() as undo, pytest.raises(NotADirectoryError):
        make_directory(tmp_path / "file", undo)
    assert (tmp_path / "file").exists()
