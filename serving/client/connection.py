"""Where a client connects to, and how its channels are set up."""

import re
from dataclasses import dataclass
from typing import Any

_ADDRESS = re.compile(r"(?:[^\s:/\[\]]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})", re.ASCII)
_MAX_TIMEOUT_S = 24 * 3600.0
_MAX_INT32 = 2**31 - 1

# gRPC's own waits up to 2 minutes between attempts to connect, in which every call fails at once. A
# server that comes back is to be used again within seconds.
_RECONNECT_AFTER_MS = 200
_RECONNECT_AT_LEAST_EVERY_MS = 2000


@dataclass(frozen=True, slots=True)
class Connection:
    """How a client's connections are set up.

    Attributes:
        max_message_bytes: the largest reply that is taken. What is sent is the server's to limit.
        keepalive_s: after so long without a word during a call the server is asked for a sign of
            life. Servers that were not told otherwise end the connection of those who ask more
            often than every 5 minutes. It also bounds how long sent bytes may stay unacknowledged.
        keepalive_timeout_s: how long the sign may take before the connection counts as lost.
        streams_per_channel: calls at a time on one connection. Most servers take no more than 100,
            and the rest would wait unseen in the channel.
        max_channels: connections at most; above that all of them are loaded alike.

    Raises:
        ValueError: a value is outside its range.
    """

    max_message_bytes: int = 64 * 2**20
    keepalive_s: float = 300.0
    keepalive_timeout_s: float = 20.0
    streams_per_channel: int = 100
    max_channels: int = 8

    def __post_init__(self) -> None:
        for name in ("max_message_bytes", "streams_per_channel", "max_channels"):
            if not 1 <= getattr(self, name) <= _MAX_INT32:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; expected from 1 to {_MAX_INT32}"
                )
        for name in ("keepalive_s", "keepalive_timeout_s"):
            if not 0 < getattr(self, name) <= _MAX_TIMEOUT_S:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; "
                    f"expected more than 0 and at most {_MAX_TIMEOUT_S:.0f}"
                )

    def channel_options(self) -> list[tuple[str, Any]]:
        """The same as gRPC's arguments of a channel."""
        return [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_http_proxy", 0),
            # Channels to one address share a connection otherwise.
            ("grpc.use_local_subchannel_pool", 1),
            # Its transparent retries, and those that a name server asks for, would multiply ours.
            ("grpc.enable_retries", 0),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.keepalive_time_ms", int(self.keepalive_s * 1e3)),
            ("grpc.keepalive_timeout_ms", int(self.keepalive_timeout_s * 1e3)),
            ("grpc.initial_reconnect_backoff_ms", _RECONNECT_AFTER_MS),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_AT_LEAST_EVERY_MS),
        ]


def checked_address(address: str) -> str:
    """Returns `host:port` as it is; an IPv6 host stands in brackets.

    Raises:
        ValueError: it is something else.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[1]) < 2**16:
        raise ValueError(f"address is {address!r}; expected host:port, as in 127.0.0.1:8001")
    return address


def checked_timeout(timeout_s: float) -> float:
    """Returns a time limit as it is.

    Raises:
        ValueError: it is not positive, or longer than a day.
    """
    if not 0 < timeout_s <= _MAX_TIMEOUT_S:  # NaN is neither
        raise ValueError(
            f"timeout is {timeout_s} s; expected more than 0 and at most {_MAX_TIMEOUT_S:.0f}"
        )
    return timeout_s
