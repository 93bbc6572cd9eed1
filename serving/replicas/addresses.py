"""Where replicas listen: "unix:/path/of/socket" on the same machine, "tcp:host:port" beyond it."""

import ipaddress
import os
import socket
import stat
from pathlib import Path

_UNIX, _TCP = "unix:", "tcp:"

# sockaddr_un has 108 bytes, the last of which is zero.
_MAX_PATH_BYTES = 107

_BACKLOG = 128


def is_unix(address: str) -> bool:
    """Whether an address is of this machine, so that memory can be shared."""
    return address.startswith(_UNIX)


def parse(address: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    """Returns the family of an address, and what a socket of it connects to.

    Raises:
        ValueError: It is none.
    """
    if address.startswith(_UNIX):
        return socket.AF_UNIX, address.removeprefix(_UNIX)
    host, _, port = address.removeprefix(_TCP).rpartition(":")
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
        if not address.startswith(_TCP) or not 0 < int(port) < 2**16:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{address!r} is no replica's address; expected unix:/PATH, tcp:IPV4:PORT or "
            "tcp:[IPV6]:PORT"
        ) from None
    return _family(ip), (str(ip), int(port))


def listen_unix(path: Path) -> tuple[socket.socket, str]:
    """Listens on a path, in a directory that is made, or is, open to this user alone.

    Returns:
        The socket, not blocking, and its address.

    Raises:
        ValueError: The path is too long, or others may enter its directory.
        OSError: The system refuses.
    """
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise ValueError(
            f"the socket's path {path} is too long; at most {_MAX_PATH_BYTES} bytes are possible"
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.parent.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ValueError(
            f"others may enter {path.parent}, where the socket would be; make it mode 0700, of "
            "this user"
        )
    return _listening(socket.AF_UNIX, str(path)), f"{_UNIX}{path}"


def listen_tcp(host: str) -> tuple[socket.socket, str]:
    """Listens on a free port of one address, and of no other.

    Args:
        host: An IP address of this machine.

    Returns:
        The socket, not blocking, and its address.

    Raises:
        ValueError: It is no IP address, or the one that stands for all of them.
        OSError: The system refuses; it is not an address of this machine.
    """
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{host!r} is no IP address for a replica to listen on") from None
    if ip.is_unspecified:
        raise ValueError(f"{host} stands for all addresses; a replica listens on one")
    listening = _listening(_family(ip), (host, 0))
    port = listening.getsockname()[1]
    return listening, f"{_TCP}[{ip}]:{port}" if ip.version == 6 else f"{_TCP}{ip}:{port}"


def _family(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ip.version == 6 else socket.AF_INET


def _listening(family: socket.AddressFamily, place: str | tuple[str, int]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.bind(place)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
