"""A directory's making is rehearsed without a trace."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from base.files import rehearse_directory


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
