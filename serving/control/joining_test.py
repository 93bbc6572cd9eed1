"""Which cluster is joined, before Ray is asked."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.control.joining import find_cluster
from serving.errors import StartError


@pytest.fixture
def head() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


def test_what_is_named_is_joined_if_somebody_listens(head: str, nobody: str) -> None:
    assert find_cluster(head, {"RAY_ADDRESS": nobody}) == head
    with pytest.raises(StartError, match=f"nobody listens at {nobody}, where the head"):
        find_cluster(nobody)
    with pytest.raises(StartError, match="nobody listens at 127.0.0.1:99999"):
        find_cluster("127.0.0.1:99999")


def test_auto_is_the_environments_or_what_was_started_last(
    head: str, nobody: str, tmp_path: Path
) -> None:
    file = tmp_path / "ray_current_cluster"
    file.write_text(f"{nobody}\n")
    assert find_cluster("auto", {"RAY_ADDRESS": head}, file) == head
    file.write_text(f"{head}\n")
    assert find_cluster("auto", {"RAY_ADDRESS": ""}, file) == head
    with pytest.raises(StartError, match="'ray://192.0.2.1:10001' is no Ray; use 'local' for one"):
        find_cluster("auto", {"RAY_ADDRESS": "ray://192.0.2.1:10001"}, file)


def test_auto_trusts_no_file_that_others_may_write(head: str, tmp_path: Path) -> None:
    file = tmp_path / "ray_current_cluster"
    with pytest.raises(StartError, match="no Ray runs on this machine that `ray start` has"):
        find_cluster("auto", {}, file)
    file.write_text(head)
    file.chmod(0o666)
    with pytest.raises(StartError, match="may be written by others"):
        find_cluster("auto", {}, file)
