"""Results replace nothing, are never half-written, and are all there or not at all."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.harness.result_files import require_writable, results_directory, write_new


def _contents(name: str) -> dict[str, bytes]:
    return {".json": b"{}", ".png": b"png", ".md": f"see {name}.png".encode()}


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_writes_whole_files(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "results"
    paths = write_new(directory, "2026-11-23-attention", _contents)
    assert _names(directory) == sorted(path.name for path in paths)
    assert (directory / "2026-11-23-attention.md").read_text() == "see 2026-11-23-attention.png"


@pytest.mark.parametrize("suffix", [".json", ".png", ".md"])
def test_name_is_new(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"attention{suffix}").write_text("mine")
    (tmp_path / f"attention-2{suffix}").write_text("mine")
    paths = write_new(tmp_path, "attention", _contents)
    assert {path.stem for path in paths} == {"attention-3"}
    assert (tmp_path / f"attention{suffix}").read_text() == "mine"
    assert (tmp_path / "attention-3.md").read_text() == "see attention-3.png"


def test_a_longer_name_is_another(tmp_path: Path) -> None:
    (tmp_path / "attention-cpu.md").touch()
    assert {path.stem for path in write_new(tmp_path, "attention", _contents)} == {"attention"}


def test_runs_that_end_at_once_have_names_of_their_own(tmp_path: Path) -> None:
    num_runs = 8
    all_know_the_free_name = threading.Barrier(num_runs)

    def contents(run: int, name: str) -> dict[str, bytes]:
        if name == "optim":
            all_know_the_free_name.wait(timeout=60)
        return {suffix: f"{run} {name}".encode() for suffix in (".json", ".md")}

    def write(run: int) -> list[Path]:
        return write_new(tmp_path / "out", "optim", lambda name: contents(run, name))

    with ThreadPoolExecutor(num_runs) as pool:
        written = list(pool.map(write, range(num_runs)))
    for run, paths in enumerate(written):
        assert {path.read_text() for path in paths} == {f"{run} {paths[0].stem}"}
    assert len(_names(tmp_path / "out")) == 2 * num_runs


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("failing", ["fsync", "link"])
def test_failed_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    works = getattr(os, failing)
    calls = 0

    def fail_the_second_time(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise error
        works(*arguments)

    monkeypatch.setattr(os, failing, fail_the_second_time)
    with pytest.raises(type(error)):
        write_new(tmp_path / "new" / "results", "optim", _contents)
    assert calls == 2
    assert _names(tmp_path) == []


def test_interrupted_run_leaves_others_files(tmp_path: Path) -> None:
    write_new(tmp_path / "out", "optim", _contents)

    def interrupted(name: str) -> dict[str, bytes]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_new(tmp_path / "out", "optim", interrupted)
    assert _names(tmp_path / "out") == ["optim.json", "optim.md", "optim.png"]


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    refused = "Not a directory|No such file|File name too long"
    for out in ("file", "file/below", "nowhere", "x" * 300, "/proc/here"):
        with pytest.raises(OSError, match=refused):
            require_writable(tmp_path / out)
    require_writable(tmp_path / "a" / "b")
    require_writable(tmp_path)
    assert _names(tmp_path) == ["file", "nowhere"]


def test_results_go_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path / "here"))
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path / "source"))
    assert results_directory(None) == tmp_path / "source" / "benchmarks" / "results"
    assert results_directory(Path("mine")) == tmp_path / "here" / "mine"
    assert results_directory(Path("/elsewhere")) == Path("/elsewhere")
