"""A directory's making is rehearsed without a trace."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from base.files import make_directory, rehearse_directory


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
