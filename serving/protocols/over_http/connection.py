"""A connection with limits of time, which aiohttp's own has for idle ones alone.

A client that sends half a head, or does not read what it asked for, is parted with; so is whoever
has been idle the longest when there are too many. aiohttp keeps what this must know, whether a
connection waits for a request, in attributes of its own; connection_test.py shows if they change.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import cast

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.http_exceptions import LineTooLong

from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.replies import JSON, json_line

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# Sent as the value of `Server`: what it is, and not of which versions.
SERVER = "hpc-gateway"


class Connections(web.Server):
    """Makes a `Connection` of each that a client opens.

    Args:
        handler: answers requests. It is cancelled when its client goes away.
        config: the limits.

    Attributes:
        closing: no connection is kept after what it answers now.
    """

    def __init__(self, handler: Handler, config: HttpConfig) -> None:
        super().__init__(handler, handler_cancellation=True)
        self.config = config
        self.closing = False
        self._open: dict[Connection, None] = {}  # the first one that came is the first one
        self._none = asyncio.Event()
        self._none.set()
        self._sweep: asyncio.TimerHandle | None = None

    def __call__(self) -> "Connection":
        """A new connection, not yet open."""
        return Connection(self, self.config)

    def opened(self, connection: "Connection") -> bool:
        """Counts one, and parts with the one that has been idle the longest if there are too many.

        Returns:
            False if all are busy, so that there is no room.
        """
        self._open[connection] = None
        self._none.clear()
        if self._sweep is None:
            self._sweep = self._loop.call_later(self.config.stall_s, self._abort_stuck)
        if len(self._open) <= self.config.max_connections:
            return True
        idle = [other for other in self._open if other.is_idle and other is not connection]
        if not idle:
            return False
        min(idle, key=lambda other: other.idle_since).abort()
        return True

    def closed(self, connection: "Connection") -> None:
        """Counts one less."""
        self._open.pop(connection, None)
        if not self._open:
            self._none.set()

    async def close(self, grace_s: float) -> None:
        """Parts with idle connections at once, and with busy ones once they have answered.

        Args:
            grace_s: after which the busy ones are cancelled.
        """
        self.closing = True
        for connection in list(self._open):
            if connection.is_idle:
                connection.force_close()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._none.wait()
        for connection in list(self._open):
            connection.abort()
        await self._none.wait()
        if self._sweep is not None:
            self._sweep.cancel()

    def _abort_stuck(self) -> None:
        """Parts with those that were to end a while ago, and whose clients do not read the rest."""
        self._sweep = None
        for connection in list(self._open):
            connection.abort_if_stuck()
        if self._open:
            self._sweep = self._loop.call_later(self.config.stall_s, self._abort_stuck)


class Connection(web.RequestHandler):
    """One connection of a client.

    Args:
        connections: of which it is one.
        config: the limits.
    """

    __slots__ = (
        "_body",
        "_config",
        "_connections",
        "_head_timer",
        "_paused_at",
        "_unsent",
        "_was_ending",
        "_wire",
        "_write_timer",
    )

    def __init__(self, connections: Connections, config: HttpConfig) -> None:
        super().__init__(
            connections,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=config.idle_s,
            lingering_time=config.stall_s,
            auto_decompress=False,
            access_log=None,
        )
        self._config = config
        self._connections = connections
        self._wire: asyncio.Transport | None = None
        self._body: StreamReader = EMPTY_PAYLOAD  # of the last request whose head has come
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._paused_at = 0.0
        self._unsent = 0
        self._was_ending = False

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, or for the rest of a request's head."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def idle_since(self) -> float:
        """Of the loop's time, give or take the same for all; of one that is idle."""
        return self._next_keepalive_close_time

    def abort(self) -> None:
        """Ends it at once, and drops what was not sent."""
        self.force_close()
        if self._wire is not None:
            self._wire.abort()

    def abort_if_stuck(self) -> None:
        """Ends it at once if it was ending when this was called last."""
        if self._wire is not None and self._wire.is_closing():
            if self._was_ending:
                self._wire.abort()
            self._was_ending = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins, if there is room."""
        super().connection_made(transport)
        self._wire = cast(asyncio.Transport, transport)
        if not self._connections.opened(self):
            self._end_with(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; try again later")

    def connection_lost(self, exc: BaseException | None) -> None:
        """Ends."""
        self._wire = None
        self._connections.closed(self)
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes what has come, and sees to it that a head that was begun is ended."""
        requests, in_body = self._request_count, not self._body.is_eof()
        super().data_received(data)
        if self._request_count != requests:
            if self._messages:
                self._body = self._messages[-1][1]
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None and not in_body and data:
            self._head_timer = self._loop.call_later(self._config.header_s, self._head_is_late)

    def pause_writing(self) -> None:
        """The client has not read what was sent, and there is more than a little of it."""
        super().pause_writing()
        if self._wire is not None:
            self._paused_at = self._loop.time()
            self._unsent = self._wire.get_write_buffer_size()
            self._watch_reader(self._paused_at + self._config.stall_s)

    def resume_writing(self) -> None:
        """The client has read on."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP: one line of JSON, and nothing in the log."""
        if isinstance(exc, LineTooLong):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            text = f"the head of the request is too large: expected lines of {self.max_line_size}"
        else:
            what = (message or "unknown").splitlines()[0].rstrip(":")[:200]
            text = f"this is no request of HTTP/1.1: {what}"
        response = web.Response(
            body=json_line({"error": text}),
            status=status,
            content_type=JSON,
            headers={"Server": SERVER},
        )
        response.force_close()
        return response

    def _process_keepalive(self) -> None:
        """It has been idle for long. What a client has not read until now it does not want."""
        super()._process_keepalive()
        if self.transport is None:
            self.abort()

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.is_idle:
            self._end_with(
                HTTPStatus.REQUEST_TIMEOUT,
                f"the head of the request had not come after {self._config.header_s:g} s",
            )

    def _watch_reader(self, until: float) -> None:
        self._write_timer = self._loop.call_at(until, self._reader_is_late)

    def _reader_is_late(self) -> None:
        """Parts with a client that has read too slowly since it was too slow first.

        Since then, and not of late: what the system takes at once can be what it holds for minutes.
        """
        self._write_timer = None
        if self._wire is None:
            return
        read = self._unsent - self._wire.get_write_buffer_size()
        enough_until = self._paused_at + self._config.stall_s + read / self._config.min_bytes_per_s
        if enough_until <= self._loop.time():
            self.abort()
        else:
            self._watch_reader(enough_until)

    def _end_with(self, status: HTTPStatus, text: str) -> None:
        """Answers though no request was read."""
        if self._wire is not None:
            body = json_line({"error": text})
            retry = "Retry-After: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\nServer: {SERVER}\r\n{retry}"
                f"Content-Type: {JSON}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            self._wire.write(head.encode() + body)
        self.force_close()
