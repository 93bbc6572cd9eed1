"""Where a gateway may listen: at an address of this machine, open to others only if it is meant."""

import ipaddress
import socket
from typing import Any, NamedTuple

_MAX_SHOWN = 100


class AddressError(ValueError):
    """A host that cannot be listened at; the message says which can."""


class _Address(NamedTuple):
    """As the operating system has it."""

    family: int
    socket_address: tuple[Any, ...]

    @property
    def is_loopback(self) -> bool:
        text, _, _ = str(self.socket_address[0]).partition("%")
        return ipaddress.ip_address(text).is_loopback


def check_host(host: str, *, insecure_bind: bool) -> None:
    """Checks that a host is one of this machine's, and can be reached from where it may be.

    Args:
        host: An address, or a name.
        insecure_bind: It may be reached from other machines, though nothing is encrypted.

    Raises:
        AddressError: It is neither, or it can be reached from elsewhere and may not.
    """
    # A name may stand for several, such as one in a version of IP that this machine does not have.
    ours = [address for address in _addresses(host) if _is_ours(address)]
    if not ours:
        raise AddressError(
            f"{host!r} is no address of this machine; expected one, such as 127.0.0.1"
        )
    if not insecure_bind and not all(address.is_loopback for address in ours):
        raise AddressError(
            f"{host!r} can be reached from other machines, and traffic is not encrypted; use "
            "127.0.0.1, or --insecure-bind if the network is trusted"
        )


def _addresses(host: str) -> list[_Address]:
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(
            f"{host[:_MAX_SHOWN]!r} is no address, and no name that is known here; expected an "
            "address of this machine, such as 127.0.0.1, or a name of it, such as localhost"
        ) from error
    return [_Address(family, address) for family, _, _, _, address in found]


def _is_ours(address: _Address) -> bool:
    """Whether this machine has an address: whether something could listen there."""
    try:
        with socket.socket(address.family, socket.SOCK_STREAM) as trial:
            trial.bind(address.socket_address)
    except OSError:
        return False
    return True
