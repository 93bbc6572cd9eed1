"""Paths are the user's, and errors are one line and a status."""

from pathlib import Path

import pytest

from base.program import (
    EXIT_FAILED,
    PathError,
    directory_from_user,
    end_with_error,
    from_user,
)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which `bazel run` was called, which is not this process's."""
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    return tmp_path


def test_a_relative_path_is_seen_from_the_users_directory(user: Path) -> None:
    assert from_user("a/b") == from_user(Path("a/b")) == user / "a" / "b"
    assert from_user("") == user
    assert directory_from_user("a/../b", "") == user / "b"
    assert directory_from_user(".", "") == user


def test_an_absolute_path_stays(user: Path) -> None:
    assert from_user("/a") == directory_from_user("/a", "") == Path("/a")


def test_without_bazel_the_users_directory_is_the_processs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BUILD_WORKING_DIRECTORY", raising=False)
    monkeypatch.chdir(tmp_path)
    assert from_user("a") == Path("a")
    assert directory_from_user("a", "") == tmp_path / "a"


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(PathError, match="the output is ''; name one"):
        directory_from_user("", "the output is ''; name one")


def test_the_directory_of_the_user_may_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BUILD_WORKING_DIRECTORY", raising=False)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert from_user(tmp_path / "a") == directory_from_user(f"{tmp_path}/a", "") == tmp_path / "a"
    with pytest.raises(PathError, match="the current directory, where a was to be, is gone; name"):
        directory_from_user("a", "")


@pytest.mark.parametrize(("arguments", "status"), [((), 2), ((EXIT_FAILED,), 1)])
def test_an_error_is_one_line_and_a_status(
    arguments: tuple[int, ...], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        end_with_error(ValueError("x is 3; expected 2"), *arguments)
    assert ended.value.code == status
    assert capsys.readouterr() == ("", "error: x is 3; expected 2\n")
