"""The sockets of a gRPC server, for the two ends that gRPC itself cannot make.

It can stop a server only as a whole: calls that are on their way then end as CANCELLED, of which
clients do not know that they may try again (https://github.com/grpc/grpc/issues/41785). And it
cannot end a call whose answer is not read. What is done here is done to the connection, and a
client that loses one has UNAVAILABLE.

gRPC keeps its sockets to itself, but they are this process's, and each knows its addresses.
"""

import os
import socket
from collections.abc import Iterator, Set
from contextlib import closing, suppress
from ipaddress import IPv6Address, ip_address
from urllib.parse import unquote

# An address of IP without its zone, and a port.
Address = tuple[str, int]

_ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104  to compare with, not to listen at


def listening_on(port: int) -> frozenset[Address]:
    """All addresses with this port at which this process listens."""
    return frozenset(
        _address(sock.getsockname())
        for sock in _sockets()
        if _is_listening(sock) and _address(sock.getsockname())[1] == port
    )


def close_listeners(addresses: Set[Address]) -> None:
    """Lets nobody connect any more. Connections stay."""
    for sock in _sockets():
        if _is_listening(sock) and _address(sock.getsockname()) in addresses:
            sock.shutdown(socket.SHUT_RDWR)


def say_no_more(addresses: Set[Address]) -> None:
    """Ends what is said to everybody who connected to these addresses.

    What was written before is still sent, and after it that this was all; what gRPC writes later
    reaches nobody.
    """
    for sock in _connections(addresses):
        with suppress(OSError):  # it is over already
            sock.shutdown(socket.SHUT_WR)


def hang_up(addresses: Set[Address], peers: Set[str]) -> None:
    """Ends the connections of some clients.

    Args:
        addresses: To which they connected.
        peers: Their addresses as gRPC tells them, "ipv4:127.0.0.1:50051" or "ipv6:%5B::1%5D:50051".
    """
    clients = set(map(_address_of, peers))
    for sock in _connections(addresses):
        with suppress(OSError):  # it is over already
            if _address(sock.getpeername()) in clients:
                sock.shutdown(socket.SHUT_RDWR)


def _address_of(peer: str) -> Address:
    host, _, port = unquote(peer.partition(":")[2]).rpartition(":")
    return _address((host.strip("[]"), int(port)))


def _connections(addresses: Set[Address]) -> Iterator[socket.socket]:
    # Only whoever listens at every address can have connections to this port at any.
    ports = {port for host, port in addresses if host in _ANY}
    for sock in _sockets():
        host, port = _address(sock.getsockname())
        if not _is_listening(sock) and ((host, port) in addresses or port in ports):
            yield sock


def _sockets() -> Iterator[socket.socket]:
    """Every socket of TCP in this process, under another number that is closed after its turn.

    By its own number it could be closed by gRPC meanwhile, and the number be another file's.
    """
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            other_number = os.dup(number)
        except OSError:  # it was closed since
            continue
        try:
            sock = socket.socket(fileno=other_number)
        except OSError:  # a file, or another thing that is no socket
            os.close(other_number)
            continue
        with closing(sock):
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                yield sock


def _is_listening(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _address(name: tuple[object, ...]) -> Address:
    """What a socket is called: 127.0.0.1 also where it is one of IPv6, ::ffff:127.0.0.1."""
    host, port = str(name[0]).partition("%")[0], name[1]
    parsed = ip_address(host)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    assert isinstance(port, int)
    return str(parsed), port
