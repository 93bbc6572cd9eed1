"""Ports: held before anybody may connect, and the one way to say that one cannot be had."""

import socket

from serving.errors import StartError


def not_had(host: str, port: int) -> StartError:
    """What to raise if a server cannot listen."""
    return StartError(
        f"cannot listen on {authority(host)}:{port}: the port is in use or the host is not of this "
        "machine; choose another port, or 0 for any free one"
    )


def authority(host: str) -> str:
    """A host as it stands in an address before the port."""
    return f"[{host}]" if ":" in host else host


class HeldPort:
    """A port that is ours, and refuses connections until a server listens on it.

    A server may listen on `number` before it is closed.

    Args:
        host: An address or a name of this machine.
        port: Its number, or 0 for any free one.

    Raises:
        StartError: Somebody listens on it, or the host is not of this machine.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            # A name may have several addresses; the first says what is free.
            family, kind, _, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._socket = socket.socket(family, kind)
        except OSError as error:
            raise not_had(host, port) from error
        try:
            # Linux lets others with this option bind the same port as long as nobody listens.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            raise not_had(host, port) from error
        self._host = host
        self.number: int = self._socket.getsockname()[1]

    def __str__(self) -> str:
        return f"{authority(self._host)}:{self.number}"

    def close(self) -> None:
        """Lets go of it."""
        self._socket.close()
