"""A connected socket that carries frames, the same on both sides.

Writing takes the socket itself and no transport of asyncio's, for two reasons: the thread that has
computed sends what it has computed, without a turn of the event loop in between, and a job leaves
within `submit` and not at the end of the loop's turn.
"""

import asyncio
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from serving.replicas.errors import FrameError
from serving.replicas.frames import Buffer, size_of
from serving.replicas.receiving import Frame, FrameReader

_log = logging.getLogger(__name__)

# Fewer bytes than that are joined, since a call with many small buffers costs more than a copy.
_JOIN_BYTES = 2**14

# Buffers that one call takes; Linux has no more than IOV_MAX, 1024.
_MAX_BUFFERS = 512

# Linux gives a Unix socket 208 KiB, which a larger frame fills again and again: a megabyte takes
# 0.59 ms there and back, and 0.38 ms with room. TCP finds its own size.
_UNIX_SEND_BYTES = 2**20

# Calls of the system in one turn of the loop, so that one busy connection leaves time for others.
_READS_A_TURN = 8


def prepare(sock: socket.socket) -> None:
    """Sets up a socket, new or accepted, for frames."""
    sock.setblocking(False)
    if sock.family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNIX_SEND_BYTES)
    else:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Connection:
    """Sends and receives frames until it is closed, which either side, or an error, may do.

    Args:
        sock: Connected, and set up by `prepare`. It belongs to the connection from now on.
        loop: In whose thread frames arrive and the connection is closed.
        max_payload_bytes: Of frames that are received.
        on_frame: Called with each frame; a FrameError that it raises ends the connection.
        on_closed: Called once, in the loop, with the reason in words.
        on_drained: Called in the loop whenever the socket has taken all of a backlog.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        max_payload_bytes: int,
        on_frame: Callable[[Frame], None],
        on_closed: Callable[[str], None],
        on_drained: Callable[[], None] = lambda: None,
    ) -> None:
        self._socket = sock
        self._loop = loop
        self._on_frame = on_frame
        self._on_closed = on_closed
        self._on_drained = on_drained
        self._reader = FrameReader(max_payload_bytes)
        # Of what follows: the order of frames, and whether the socket is open.
        self._lock = threading.Lock()
        self._backlog: deque[memoryview] = deque()
        self._backlog_bytes = 0
        self._closed = False
        self._paused = False
        # Set when something came; who watches whether the other side lives sets it back.
        self.heard = True
        loop.add_reader(sock, self._readable)

    @property
    def backlog_bytes(self) -> int:
        """What was sent and the socket has not taken yet."""
        return self._backlog_bytes

    @property
    def closed(self) -> bool:
        """Whether nothing is sent or received any more."""
        return self._closed

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Sends a frame, at once or, where the socket is full, as soon as it takes it.

        Any thread may call it. The buffers must not change afterwards. If the connection is, or
        turns out to be, closed, nothing is sent, and `on_closed` tells.
        """
        size = size_of(buffers)
        if size <= _JOIN_BYTES and len(buffers) > 1:
            buffers = [b"".join(buffers)]
        with self._lock:
            if self._closed:
                return
            sent = 0
            if not self._backlog:
                try:
                    if len(buffers) == 1:
                        sent = self._socket.send(buffers[0])
                    else:
                        sent = self._socket.sendmsg(buffers[:_MAX_BUFFERS])
                except BlockingIOError:
                    pass
                except OSError as error:
                    self._loop.call_soon_threadsafe(self.close, _reason(error))
                    return
                if sent == size:
                    return
                self._loop.call_soon_threadsafe(self._wait_until_writable)
            self._backlog.extend(_without(buffers, sent))
            self._backlog_bytes += size - sent

    def pause(self) -> None:
        """Leaves what comes in the socket, so that the other side has to wait."""
        if not self._paused and not self._closed:
            self._paused = True
            self._loop.remove_reader(self._socket)

    def resume(self) -> None:
        """Reads on after `pause`."""
        if self._paused and not self._closed:
            self._paused = False
            self.heard = True
            self._loop.add_reader(self._socket, self._readable)

    @property
    def paused(self) -> bool:
        """Whether it is left in the socket."""
        return self._paused

    def close(self, reason: str) -> None:
        """Ends the connection at once; what is in the backlog is lost. The loop's thread only."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._backlog.clear()
            self._backlog_bytes = 0
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
        self._on_closed(reason)

    def _wait_until_writable(self) -> None:
        if not self._closed:
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        with self._lock:
            if self._closed:
                return
            try:
                sent = self._socket.sendmsg(list(islice(self._backlog, _MAX_BUFFERS)))
            except BlockingIOError:
                return
            except OSError as error:
                self._loop.call_soon(self.close, _reason(error))
                return
            self._backlog_bytes -= sent
            while self._backlog and sent >= len(self._backlog[0]):
                sent -= len(self._backlog.popleft())
            if sent:
                self._backlog[0] = self._backlog[0][sent:]
            if self._backlog:
                return
            self._loop.remove_writer(self._socket)
        self._on_drained()

    def _readable(self) -> None:
        for _ in range(_READS_A_TURN):
            space = self._reader.space()
            try:
                count = self._socket.recv_into(space)
            except BlockingIOError:
                return
            except OSError as error:
                self.close(_reason(error))
                return
            if not count:
                self.close("the other side has closed the connection")
                return
            self.heard = True
            try:
                for frame in self._reader.received(count):
                    if not self._closed:
                        self._on_frame(frame)
            except FrameError as error:
                self.close(str(error))
            except Exception:
                _log.exception("a frame could not be dealt with")
                self.close("a frame could not be dealt with, as the log has it")
            # Less than there was space for: the socket is empty; to ask again would only say so.
            if count < len(space) or self._closed or self._paused:
                return


def _without(buffers: Sequence[Buffer], sent: int) -> list[memoryview]:
    """What is left of buffers of which the first bytes were sent."""
    left = []
    for buffer in buffers:
        memory = memoryview(buffer).cast("B")
        if sent < len(memory):
            left.append(memory[sent:])
        sent = max(0, sent - len(memory))
    return left


def _reason(error: OSError) -> str:
    return f"the connection has failed: {error.strerror or error}"
