"""What this server costs: requests a second and CPU a request, beside a bare aiohttp server.

    ./bazelw run //serving/protocols/over_http:overhead_bench

Both run in processes of their own, over one event loop each, and compute the same function of the
same 8 by 8 image in it. They are asked in turns, by as many connections at once as the table says.
"""

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple, cast

import numpy as np
import orjson
import psutil
import uvloop
from aiohttp import web

from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.server import HttpServer
from serving.testing.local_engine import LocalEngine
from serving.testing.local_replica import mean_of_each_row
from serving.testing.served_models import DIGITS

CALLERS = (1, 32)
BLOCKS = 6
BLOCK_S = 1.0

_IMAGE = np.random.default_rng(0).random((1, 8, 8, 1), np.float32)


class Measured(NamedTuple):
    """One block.

    Attributes:
        rate_hz: requests answered a second.
        cpu_us: of the server, a request.
    """

    rate_hz: float
    cpu_us: float


async def bare(request: web.BaseRequest) -> web.StreamResponse:
    """The least that answers the same JSON: no limits, no checks, no ids, no batches."""
    tensor = orjson.loads(await request.read())["inputs"][0]
    image = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    logits = mean_of_each_row({"image": image})["logits"]
    output = {"name": "logits", "datatype": "FP32", "shape": logits.shape, "data": logits.ravel()}
    body = {"model_name": "digits", "model_version": "1.2.3", "outputs": [output]}
    return web.Response(
        body=orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), content_type="application/json"
    )


async def bare_binary(request: web.BaseRequest) -> web.StreamResponse:
    """The same for a binary tensor."""
    body = await request.read()
    length = int(request.headers["Inference-Header-Content-Length"])
    tensor = orjson.loads(body[:length])["inputs"][0]
    image = np.frombuffer(body, np.float32, offset=length).reshape(tensor["shape"])
    logits = mean_of_each_row({"image": image})["logits"].tobytes()
    size = {"binary_data_size": len(logits)}
    output = {"name": "logits", "datatype": "FP32", "shape": [1, 10], "parameters": size}
    head = orjson.dumps({"model_name": "digits", "model_version": "1.2.3", "outputs": [output]})
    return web.Response(
        body=head + logits,
        content_type="application/octet-stream",
        headers={"Inference-Header-Content-Length": str(len(head))},
    )


async def _start_bare() -> int:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        binary = "Inference-Header-Content-Length" in request.headers
        return await (bare_binary(request) if binary else bare(request))

    server = web.Server(answer, access_log=None)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    return listening.sockets[0].getsockname()[1]


async def _start_ours() -> int:
    engine = LocalEngine([(DIGITS, mean_of_each_row)]).engine
    address = await HttpServer(engine, HttpConfig()).listen("127.0.0.1", 0)
    return int(address.rpartition(":")[2])


SERVERS = {"ours": _start_ours, "bare aiohttp": _start_bare}


def _serve(start: Callable[[], Awaitable[int]], tell: Connection) -> None:
    async def run() -> None:
        tell.send(await start())
        await asyncio.Event().wait()

    uvloop.run(run())


@contextmanager
def _running() -> Iterator[dict[str, tuple[int, psutil.Process]]]:
    """Each server's port and process."""
    context = multiprocessing.get_context("spawn")
    servers, processes = {}, []
    for name, start in SERVERS.items():
        told, tell = context.Pipe(duplex=False)
        process = context.Process(target=_serve, args=(start, tell), daemon=True)
        process.start()
        processes.append(process)
        servers[name] = (told.recv(), psutil.Process(process.pid))
    try:
        yield servers
    finally:
        for process in processes:
            process.kill()


class _Caller(asyncio.Protocol):
    """Asks again as soon as it is answered, until the time is over."""

    def __init__(self, request: bytes, until: float) -> None:
        self._request, self._until = request, until
        self._buffer = b""
        self.answered = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(self._buffer.decode(errors="replace")))
            self._transport.close()
            return
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._buffer = b""
        self.answered += 1
        if time.perf_counter() < self._until:
            self._transport.write(self._request)
        else:
            self._transport.close()
            self.done.set_result(None)


def _requests() -> dict[str, bytes]:
    """The bytes of a request, by its form."""
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8, 1]}
    as_json = orjson.dumps({"inputs": [tensor | {"data": _IMAGE.ravel().tolist()}]})
    sized = tensor | {"parameters": {"binary_data_size": _IMAGE.nbytes}}
    head = orjson.dumps({"parameters": {"binary_data_output": True}, "inputs": [sized]})
    start = "POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\n"
    of_binary = f"Inference-Header-Content-Length: {len(head)}\r\n"
    length = len(head) + _IMAGE.nbytes
    return {
        "JSON": f"{start}Content-Length: {len(as_json)}\r\n\r\n".encode() + as_json,
        "binary": f"{start}{of_binary}Content-Length: {length}\r\n\r\n".encode()
        + head
        + _IMAGE.tobytes(),
    }


async def _block(port: int, server: psutil.Process, request: bytes, callers: int) -> Measured:
    before, started = sum(server.cpu_times()[:2]), time.perf_counter()
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(callers):
        _, client = await loop.create_connection(
            lambda: _Caller(request, started + BLOCK_S), "127.0.0.1", port
        )
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    answered = sum(client.answered for client in clients)
    cpu_s = sum(server.cpu_times()[:2]) - before
    return Measured(answered / (time.perf_counter() - started), cpu_s / answered * 1e6)


async def _measure() -> None:
    with _running() as servers:
        print("| form | callers | server | requests/s | CPU us a request |")
        print("| --- | --- | --- | --- | --- |")
        for form, request in _requests().items():
            for callers in CALLERS:
                blocks: dict[str, list[Measured]] = {name: [] for name in servers}
                for _ in range(BLOCKS):
                    for name, (port, process) in servers.items():
                        blocks[name].append(await _block(port, process, request, callers))
                for name, of_server in blocks.items():
                    rate_hz = statistics.median(block.rate_hz for block in of_server)
                    cpu_us = statistics.median(block.cpu_us for block in of_server)
                    print(f"| {form} | {callers} | {name} | {rate_hz:,.0f} | {cpu_us:.0f} |")


if __name__ == "__main__":
    uvloop.run(_measure())
