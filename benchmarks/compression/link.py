"""What a link carries: TCP both ways at once among ranks, and the bytes that were sent."""

import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_CHUNK_BYTES = 2**20
_TIMEOUT_S = 60.0
_RETRY_S = 0.05


class Ring:
    """A rank's place in a ring of TCP connections, made at the first transfer."""

    def __init__(self, addresses: Sequence[str], rank: int, port: int) -> None:
        """Begins to listen.

        Args:
          addresses: of all ranks.
          rank: whose place it is.
          port: of rank 0; the following ranks have the following ports.
        """
        self._following = (rank + 1) % len(addresses)
        self._address = (addresses[self._following], port + self._following)
        self._server = socket.create_server((addresses[rank], port + rank))
        self._server.settimeout(_TIMEOUT_S)
        self._sockets: tuple[socket.socket, socket.socket] | None = None

    def transfer(self, num_bytes: int) -> float:
        """Sends and receives so many bytes at once; returns how long receiving took, in s.

        Raises:
          OSError: a neighbour is gone or too slow.
        """
        if self._sockets is None:
            self._sockets = self._connect()
        to, source = self._sockets
        start = time.perf_counter()
        sender = threading.Thread(target=_send, args=(to, num_bytes))
        sender.start()
        _receive(source, num_bytes)
        seconds = time.perf_counter() - start
        sender.join()
        return seconds

    def _connect(self) -> tuple[socket.socket, socket.socket]:
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            try:
                to = socket.create_connection(self._address, timeout=_TIMEOUT_S)
                break
            except ConnectionRefusedError:  # it does not listen yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_S)
        source, _ = self._server.accept()
        source.settimeout(_TIMEOUT_S)
        return to, source


def sent_bytes(interface: str) -> int:
    """Returns what an interface of this process's network namespace has sent, in bytes.

    /sys/class/net has the same numbers, but of the namespace in which /sys was mounted.
    """
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == interface:
            # Eight counts of what was received come first; see proc_net(5).
            return int(counts.split()[8])
    raise ValueError(f"/proc/self/net/dev has no interface {interface}")


def _send(to: socket.socket, num_bytes: int) -> None:
    chunk = memoryview(bytes(_CHUNK_BYTES))
    while num_bytes > 0:
        num_bytes -= to.send(chunk[: min(_CHUNK_BYTES, num_bytes)])


def _receive(source: socket.socket, num_bytes: int) -> None:
    chunk = memoryview(bytearray(_CHUNK_BYTES))
    while num_bytes > 0:
        got = source.recv_into(chunk[: min(_CHUNK_BYTES, num_bytes)])
        if not got:
            raise ConnectionResetError("the rank before this one closed its connection")
        num_bytes -= got
