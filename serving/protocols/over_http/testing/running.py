"""A server in a thread of the test, and a client that sends bytes as they are."""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import uvloop

from serving.core.channel import Channel
from serving.core.model import ServedModel
from serving.core.model_control import ModelControl
from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.server import HttpServer
from serving.replicas.compute import Compute
from serving.testing.local_engine import LocalEngine
from serving.testing.local_replica import mean_of_each_row
from serving.testing.served_models import DIGITS

PATIENCE_S = 60.0  # far more than anything takes


class Answer(NamedTuple):
    """What a server sent.

    Attributes:
        status: of HTTP.
        headers: by name in lower case.
        body: as it is.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed by another parser than the server's."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """What was wrong."""
        message = self.json["error"]
        assert isinstance(message, str)
        return message


class Server(Protocol):
    """What listens and ends."""

    async def listen(self, host: str, port: int) -> str:
        """Listens, and says where."""

    async def stop(self, grace_s: float) -> None:
        """Ends."""


class Running(NamedTuple):
    """A server that runs.

    Attributes:
        server: which.
        local: its engine.
        host: where.
        port: where.
        loop: in which; another thread's.
    """

    server: Any
    local: LocalEngine
    host: str
    port: int
    loop: asyncio.AbstractEventLoop

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | list[Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Sends one request on a connection of its own."""
        content = body if isinstance(body, bytes) else b""
        if body is not None and not isinstance(body, bytes):
            content = json.dumps(body).encode()
        lines = {"Host": f"{self.host}:{self.port}", "Connection": "close", **(headers or {})}
        if body is not None and "Transfer-Encoding" not in lines:
            lines.setdefault("Content-Length", str(len(content)))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content)

    def send(self, request: bytes, *, is_head: bool = False) -> Answer:
        """Sends bytes, and reads one answer."""
        with self.connect() as client:
            client.sendall(request)
            return read_answer(client, is_head=is_head)

    def connect(self) -> socket.socket:
        """A connection."""
        return socket.create_connection((self.host, self.port), PATIENCE_S)

    def run(self, work: Awaitable[Any]) -> Any:
        """Runs something in the server's loop, and waits for it."""

        async def waited() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), self.loop).result(PATIENCE_S)


def read_answer(client: socket.socket, *, is_head: bool = False) -> Answer:
    """Reads one answer; the connection may stay open."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = client.recv(65536)
        if not part:
            raise ConnectionError(f"the connection ended after {received!r}")
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = 0 if is_head else int(headers.get("content-length", "0"))
    parts = [body]
    while (missing := length - sum(map(len, parts))) > 0:
        part = client.recv(missing)
        if not part:
            raise ConnectionError(f"{missing} of {length} bytes of the body are missing")
        parts.append(part)
    return Answer(int(status_line.split()[1]), headers, b"".join(parts))


@contextmanager
def in_thread(make: Callable[[], tuple[Server, LocalEngine]]) -> Iterator[Running]:
    """A server on a free port of loopback, in a loop and a thread of its own.

    Args:
        make: makes it and its engine, called in that loop.
    """
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> Running:
        server, local = make()
        host, _, port = (await server.listen("127.0.0.1", 0)).rpartition(":")
        return Running(server, local, host, int(port), loop)

    here = asyncio.run_coroutine_threadsafe(start(), loop).result(PATIENCE_S)
    try:
        yield here
    finally:
        here.run(here.server.stop(0))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


@contextmanager
def running(
    *models: tuple[ServedModel, Compute | Channel],
    config: HttpConfig | None = None,
    control: ModelControl | None = None,
    max_requests: int = 1000,
    max_bytes: int = 2**30,
) -> Iterator[Running]:
    """The server for clients; see `in_thread`.

    Args:
        models: each with what it computes, or its replica; by default DIGITS.
        config: its limits; by default the usual ones.
        control: of models.
        max_requests: at once.
        max_bytes: of all requests at once.
    """

    def make() -> tuple[HttpServer, LocalEngine]:
        local = LocalEngine(
            models or [(DIGITS, mean_of_each_row)], max_requests=max_requests, max_bytes=max_bytes
        )
        return HttpServer(local.engine, config or HttpConfig(), control), local

    with in_thread(make) as here:
        yield here
