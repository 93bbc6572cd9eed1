"""The recorded origin is the real one."""

import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from base import provenance
from base.provenance import SourceState, source_state


def _git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    command = ["git", *identity, *arguments]
    return subprocess.run(
        command, cwd=directory, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def test_a_clean_then_a_dirty_checkout(workspace: Path) -> None:
    _git(workspace, "init", "--quiet")
    (workspace / "file").write_text("1")
    _git(workspace, "add", "file")
    _git(workspace, "commit", "--quiet", "--message", "first")
    commit = _git(workspace, "rev-parse", "HEAD")
    assert source_state() == SourceState(commit, dirty=False)
    (workspace / "file").write_text("2")
    assert source_state() == SourceState(commit, dirty=True)


def test_a_repository_without_a_commit_is_unknown(workspace: Path) -> None:
    _git(workspace, "init", "--quiet")
    assert source_state() == SourceState("unknown", dirty=False)


def test_a_plain_directory_is_unknown(workspace: Path) -> None:
    assert source_state() == SourceState("unknown", dirty=False)


def test_without_git_it_is_unknown(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(workspace))
    assert source_state() == SourceState("unknown", dirty=False)


def test_outside_bazel_it_is_unknown_but_where_an_image_says_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("BUILD_WORKSPACE_DIRECTORY", raising=False)
    monkeypatch.delenv("HPC_COMMIT", raising=False)
    assert source_state() == SourceState("unknown", dirty=False)
    monkeypatch.setenv("HPC_COMMIT", "c0ffee" * 6 + "c0ff")
    assert source_state() == SourceState("c0ffee" * 6 + "c0ff", dirty=False)


def test_a_checkout_knows_better_than_an_image(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_COMMIT", "c0ffee" * 6 + "c0ff")
    assert source_state() == SourceState("unknown", dirty=False)


def test_host_names_cores_system_and_device() -> None:
    assert re.fullmatch(r".+, \d+ cores, Linux-.+, cpu", provenance.host("cpu"))


def test_library_versions_are_the_installed_ones() -> None:
    versions = provenance.library_versions(["numpy"])
    assert versions["numpy"] == metadata.version("numpy")
    assert re.fullmatch(r"3\.\d+\.\d+\S*", versions["python"])


def test_features_are_those_of_the_cpu() -> None:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    found = provenance.cpu_features()
    assert found
    assert all(re.search(rf"\b{feature}\b", cpuinfo) for feature in found)


def test_flags_are_those_that_libraries_heed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    monkeypatch.setenv("MY_PASSWORD", "secret")
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "reference")
    for name in ("HPC_SIGNING_PASSWORD", "HPC_SIGNING_KEY", "HPC_REGISTRY"):
        monkeypatch.setenv(name, "secret")
    flags = provenance.flags()
    assert flags["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=true"
    assert "MY_PASSWORD" not in flags
    assert flags["HPC_KERNEL_BACKEND"] == "reference"
    assert not {"HPC_SIGNING_PASSWORD", "HPC_SIGNING_KEY", "HPC_REGISTRY"} & flags.keys()
