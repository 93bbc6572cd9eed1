"""Ports that are held: known at once, refusing, and a server's when it comes."""

import socket
from contextlib import closing

import pytest

from serving.errors import StartError
from serving.protocols.ports import HeldPort

LOOPBACK = ["127.0.0.1", "::1", "localhost"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_it_refuses_until_a_server_listens(host: str) -> None:
    with closing(HeldPort(host, 0)) as held:
        assert str(held) == f"{f'[{host}]' if ':' in host else host}:{held.number}"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, held.number))
        with (
            socket.create_server(
                (host, held.number), family=socket.AF_INET6 if ":" in host else socket.AF_INET
            ),
            socket.create_connection((host, held.number)),
        ):
            pass


def test_a_port_that_somebody_listens_on_is_not_had() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{port}: the port is in"):
            HeldPort("127.0.0.1", port)


def test_a_port_is_free_at_once_after_its_connections() -> None:
    """A gateway that is started again finds the remains of the connections of the one before."""
    with socket.create_server(("127.0.0.1", 0)) as before:
        address = before.getsockname()
        with socket.create_connection(address), before.accept()[0] as accepted:
            accepted.close()
    with closing(HeldPort(*address)) as held:
        assert held.number == address[1]


@pytest.mark.parametrize("host", ["192.0.2.1", "name.invalid"])
def test_a_host_elsewhere_is_refused(host: str) -> None:
    with pytest.raises(StartError, match=f"cannot listen on {host}:0"):
        HeldPort(host, 0)
