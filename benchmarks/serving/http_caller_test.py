"""The client of HTTP, asking a server whose every byte is written here."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from benchmarks.serving.http_caller import HttpCaller, HttpError
from benchmarks.serving.wire import http_request

_REQUEST = http_request("/predict", b"0123456789", "application/octet-stream")
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"


class _Server:
    """Answers each request by bytes, packet by packet, and counts connections."""

    def __init__(self, packets: Sequence[bytes], *, then_close: bool = False) -> None:
        self.num_connections = 0
        self.requests: list[bytes] = []
        self._packets, self._then_close = packets, then_close

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        while not reader.at_eof():
            try:
                self.requests.append(await reader.readexactly(len(_REQUEST)))
            except asyncio.IncompleteReadError:
                break
            for packet in self._packets:
                writer.write(packet)
                await writer.drain()
                await asyncio.sleep(0)
            if self._then_close:
                break
        writer.close()


def _with(server: _Server, use: Callable[[HttpCaller], Awaitable[object]]) -> object:
    async def run() -> object:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        caller = HttpCaller(listening.sockets[0].getsockname()[1])
        try:
            return await use(caller)
        finally:
            await caller.close()
            listening.close()

    return asyncio.run(run())


@pytest.mark.parametrize("answer", [_OK, _CHUNKED], ids=["length", "chunked"])
def test_answers_come_whole_over_one_connection(answer: bytes) -> None:
    server = _Server([answer[:20], answer[20:50], answer[50:]])

    async def use(caller: HttpCaller) -> list[bytes]:
        return [await caller.ask(_REQUEST) for _ in range(3)]

    assert _with(server, use) == [b"abc"] * 3
    assert server.num_connections == 1
    assert server.requests == [_REQUEST] * 3


def test_calls_at_once_have_a_connection_each() -> None:
    server = _Server([_OK])

    async def use(caller: HttpCaller) -> None:
        for _ in range(2):
            await asyncio.gather(*(caller.ask(_REQUEST) for _ in range(5)))

    _with(server, use)
    assert server.num_connections == 5


def test_another_status_is_an_error_with_its_words() -> None:
    server = _Server([b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\ntry later"])
    with pytest.raises(HttpError, match="503: try later"):
        _with(server, lambda caller: caller.ask(_REQUEST))


def test_a_connection_that_ends_in_an_answer_is_an_error() -> None:
    server = _Server([_OK[:-1]], then_close=True)
    with pytest.raises(HttpError, match="ended"):
        _with(server, lambda caller: caller.ask(_REQUEST))


def test_a_connection_that_was_closed_is_not_used_again() -> None:
    server = _Server([_OK], then_close=True)

    async def use(caller: HttpCaller) -> list[bytes]:
        answers = []
        for _ in range(3):
            answers.append(await caller.ask(_REQUEST))
            await asyncio.sleep(0.02)
        return answers

    assert _with(server, use) == [b"abc"] * 3
    assert server.num_connections == 3
