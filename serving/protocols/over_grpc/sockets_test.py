"""The sockets of one server are found by its addresses, and nobody else's are touched."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from serving.protocols.over_grpc.sockets import (
    close_listeners,
    hang_up,
    listening_on,
    say_no_more,
)

WAIT_S = 60.0

# Where a server listens, and where its clients connect.
HOSTS = [
    ("127.0.0.1", "127.0.0.1"),
    ("0.0.0.0", "127.0.0.1"),
    ("::1", "::1"),
    ("::", "::1"),
    ("::", "127.0.0.1"),  # which the server sees as ::ffff:127.0.0.1
]


class Pair(NamedTuple):
    """The two ends of a connection."""

    ours: socket.socket
    theirs: socket.socket

    def peer(self) -> str:
        """Its client as gRPC tells it."""
        host, port = self.theirs.getsockname()[:2]
        return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def is_open(self) -> bool:
        """Whether what is said at either end is heard at the other."""
        self.ours.sendall(b"a")
        self.theirs.sendall(b"b")
        return (self.theirs.recv(1), self.ours.recv(1)) == (b"a", b"b")


class Listening:
    """A server that accepts."""

    def __init__(self, host: str, client_host: str, stack: ExitStack) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server(
            (host, 0), family=family, dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6()
        )
        self.listener = stack.enter_context(listener)
        self.port = listener.getsockname()[1]
        self._client_host, self._stack = client_host, stack

    def connected(self) -> Pair:
        address = (self._client_host, self.port)
        theirs = self._stack.enter_context(socket.create_connection(address, WAIT_S))
        ours, _ = self.listener.accept()
        ours.settimeout(WAIT_S)
        return Pair(self._stack.enter_context(ours), theirs)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=HOSTS, ids=lambda hosts: f"{hosts[0]} from {hosts[1]}")
def server(request: pytest.FixtureRequest, stack: ExitStack) -> Listening:
    return Listening(*request.param, stack)


@pytest.fixture
def another(stack: ExitStack) -> Listening:
    return Listening("127.0.0.1", "127.0.0.1", stack)


def test_one_client_loses_its_connection(server: Listening, another: Listening) -> None:
    first, second, of_another = server.connected(), server.connected(), another.connected()
    hang_up(listening_on(server.port), {first.peer(), of_another.peer()})
    assert first.theirs.recv(1) == b""
    assert first.ours.recv(1) == b""
    assert second.is_open()
    assert of_another.is_open()


def test_what_was_said_before_the_end_is_heard(server: Listening, another: Listening) -> None:
    addresses = listening_on(server.port)
    pairs, of_another = [server.connected() for _ in range(2)], another.connected()
    for pair in pairs:
        pair.ours.sendall(b"the last answer")
    say_no_more(addresses)
    for pair in pairs:
        with pytest.raises(BrokenPipeError):
            pair.ours.sendall(b"a word too many")
        assert pair.theirs.recv(100) == b"the last answer"
        assert pair.theirs.recv(100) == b""
        pair.theirs.sendall(b"still heard")
        assert pair.ours.recv(100) == b"still heard"
    assert of_another.is_open()
    assert server.connected().is_open()  # it takes others


def test_nobody_connects_any_more(server: Listening, another: Listening) -> None:
    before = server.connected()
    addresses = listening_on(server.port)
    close_listeners(addresses)
    with pytest.raises(ConnectionRefusedError):
        server.connected()
    assert before.is_open()
    assert another.connected().is_open()
    say_no_more(addresses)
    assert before.theirs.recv(1) == b""
    close_listeners(addresses)  # again, which is nothing


def test_a_connection_that_is_over_is_no_error(server: Listening) -> None:
    pair = server.connected()
    peer = pair.peer()
    pair.theirs.close()
    assert pair.ours.recv(1) == b""
    hang_up(listening_on(server.port), {peer})
    say_no_more(listening_on(server.port))
