"""Where replicas listen: nowhere that others may enter, and on one address only."""

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.replicas.addresses import listen_tcp, listen_unix, parse
from serving.replicas.server import serve
from serving.testing.local_replica import numpy_model


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


def test_a_directory_that_is_made_is_closed_to_others(directory: Path) -> None:
    listening, address = listen_unix(directory / "new" / "s")
    with listening:
        assert address == f"unix:{directory}/new/s"
        assert stat.S_IMODE((directory / "new").stat().st_mode) == 0o700
        assert parse(address) == (socket.AF_UNIX, f"{directory}/new/s")


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o755, 0o777])
def test_a_directory_that_others_may_enter_is_refused(directory: Path, mode: int) -> None:
    directory.chmod(mode)
    with pytest.raises(ValueError, match=f"others may enter {directory}.*make it mode 0700"):
        listen_unix(directory / "s")
    assert list(directory.iterdir()) == []


def test_a_path_that_is_too_long_is_refused(directory: Path) -> None:
    with pytest.raises(ValueError, match="is too long; at most 107 bytes are possible"):
        listen_unix(directory / ("s" * 108))


def test_a_path_that_is_taken_is_refused(directory: Path) -> None:
    listening, _ = listen_unix(directory / "s")
    with listening, pytest.raises(OSError, match="in use"):
        listen_unix(directory / "s")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_it_listens_on_one_address_and_on_no_other(host: str) -> None:
    listening, address = listen_tcp(host)
    with listening:
        family, (bound, port) = parse(address)  # type: ignore[misc]
        assert (family, bound) == (socket.AF_INET, host)
        assert listening.getsockname() == (host, port)
        other = {"127.0.0.1": "127.0.0.2", "127.0.0.2": "127.0.0.1"}[host]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((other, port))
        socket.create_connection((host, port)).close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0"])
def test_all_addresses_at_once_are_refused(host: str) -> None:
    with pytest.raises(ValueError, match="stands for all addresses|is no IP address"):
        listen_tcp(host)


@pytest.mark.parametrize("host", ["", "localhost", "example.com", "10.0.0.1:80"])
def test_what_is_no_ip_address_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="is no IP address for a replica to listen on"):
        listen_tcp(host)


def test_addresses_of_version_6_are_read_with_brackets() -> None:
    assert parse("tcp:[::1]:80") == (socket.AF_INET6, ("::1", 80))


def test_a_replica_that_cannot_listen_leaves_nothing(directory: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(ValueError, match="stands for all addresses"):
            serve(
                numpy_model(),
                name="r",
                unix_path=directory / "s",
                tcp_host="0.0.0.0",
                token=bytes(32),
            )
        assert list(directory.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ValueError, match="got neither"):
        serve(numpy_model(), name="r", unix_path=None, tcp_host=None, token=bytes(32))
    with pytest.raises(ValueError, match="a token of 4 bytes"):
        serve(numpy_model(), name="r", unix_path=directory / "s", tcp_host=None, token=b"abcd")
