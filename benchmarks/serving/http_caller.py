"""Asks a server through HTTP/1.1 with as little work of the client's own as Python allows.

aiohttp's client takes several times as long for a request as the servers' own HTTP does, which
would hide what is to be compared.
"""

import asyncio
from collections import deque
from typing import cast

import httptools

_OK = 200


class HttpError(Exception):
    """The server answered with another status than 200, or ended the connection."""


class HttpCaller:
    """Connections that are kept, one for each call under way.

    Args:
        port: Of the server, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: deque[_Connection] = deque()

    async def ask(self, request: bytes) -> bytes:
        """Returns the body of the answer to a request, which is bytes from its first line on.

        Raises:
            HttpError: The server refused or failed.
            OSError: The server is not there.
        """
        connection = None
        while self._idle and (connection is None or connection.is_closed):
            connection = self._idle.pop()
        if connection is None or connection.is_closed:
            connection = await self._connect()
        answer = await connection.ask(request)
        self._idle.append(connection)
        return answer

    async def close(self) -> None:
        """Ends all connections."""
        while self._idle:
            self._idle.pop().close()

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        return connection


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.is_closed = False
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[bytes] | None = None
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> "asyncio.Future[bytes]":
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        status = self._parser.get_status_code()
        if status == _OK:
            answer.set_result(body)
        else:
            answer.set_exception(HttpError(f"{status}: {body[:200].decode(errors='replace')}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(HttpError(f"the connection ended: {error}"))
