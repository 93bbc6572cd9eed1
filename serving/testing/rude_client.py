"""An HTTP/2 client that does what no library would: sends half a request, or never reads.

Reference: RFC 9113 (frames) and RFC 7541 (literal header fields).
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from inference import grpc_service_pb2 as oip

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING = 0, 1, 3, 4, 6
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE = 4
_MAX_FRAME = 16_384
_STREAM = 1

INFER = f"/{oip.DESCRIPTOR.services_by_name['GRPCInferenceService'].full_name}/ModelInfer"


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes([kind, flags])
        + struct.pack(">I", stream)
        + payload
    )


def _literal(name: str, value: str) -> bytes:
    """A header field that is no entry of any table, and not compressed."""
    parts = [b"\x00"]
    for text in (name, value):
        parts += [bytes([len(text)]), text.encode()]
    return b"".join(parts)


class RudeClient:
    """One connection with one call of ModelInfer.

    Args:
        connection: A socket that is connected.
        window: How many bytes of an answer it lets come.
    """

    def __init__(self, connection: socket.socket, window: int = 65_535) -> None:
        self._connection = connection
        self._received = b""
        setting = struct.pack(">HI", _INITIAL_WINDOW_SIZE, window)
        connection.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, setting))

    def begin_call(self) -> None:
        """Sends the head of a call, and no message."""
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", INFER),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        head = b"".join(_literal(name, value) for name, value in fields)
        self._connection.sendall(_frame(_HEADERS, _END_HEADERS, _STREAM, head))

    def send(self, message: bytes, *, part: int | None = None) -> None:
        """Sends a message, or so many bytes of it and never the rest.

        At most 65,535 bytes: it does not wait for the server to make room for more.
        """
        prefixed = struct.pack(">BI", 0, len(message)) + message
        sent = prefixed if part is None else prefixed[:part]
        for start in range(0, len(sent), _MAX_FRAME):
            last = part is None and start + _MAX_FRAME >= len(sent)
            piece = sent[start : start + _MAX_FRAME]
            self._connection.sendall(_frame(_DATA, _END_STREAM * last, _STREAM, piece))

    def read_until_ended(self) -> str:
        """Reads and is polite otherwise until the server ends the call or the connection.

        Returns:
            "call" or "connection".
        """
        with suppress(ConnectionError):
            while (frame := self._next_frame()) is not None:
                kind, flags, stream, payload = frame
                if kind == _SETTINGS and not flags & _ACK:
                    self._connection.sendall(_frame(_SETTINGS, _ACK, 0))
                elif kind == _PING and not flags & _ACK:
                    self._connection.sendall(_frame(_PING, _ACK, 0, payload))
                elif stream == _STREAM and (kind == _RST_STREAM or flags & _END_STREAM):
                    return "call"
        return "connection"

    def _next_frame(self) -> tuple[int, int, int, bytes] | None:
        head = self._exactly(9)
        if head is None:
            return None
        size = int.from_bytes(head[:3], "big")
        payload = self._exactly(size)
        return (
            None
            if payload is None
            else (head[3], head[4], int.from_bytes(head[5:], "big"), payload)
        )

    def _exactly(self, size: int) -> bytes | None:
        while len(self._received) < size:
            more = self._connection.recv(65_536)
            if not more:
                return None
            self._received += more
        taken, self._received = self._received[:size], self._received[size:]
        return taken


@contextmanager
def rude_client(address: str, window: int = 65_535) -> Iterator[RudeClient]:
    """Connects, and waits for anything a minute at most."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        yield RudeClient(connection, window)
