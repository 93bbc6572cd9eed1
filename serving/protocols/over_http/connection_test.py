"""Who is slow, idle, or sends too much at once is parted with, and others do not notice."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from aiohttp import web

from serving.core.signature import TensorSpec
from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.connection import Connections
from serving.protocols.over_http.testing.malformed import IMAGE, PATH, binary, good, http
from serving.protocols.over_http.testing.running import Running, read_answer, running
from serving.testing.local_replica import mean_of_each_row
from serving.testing.served_models import DIGITS

# Far below what usual limits are, so that a test does not wait for them.
SHORT = HttpConfig(header_s=0.5, idle_s=1.5, stall_s=0.5, min_bytes_per_s=100_000)
BODY = json.dumps(good()).encode()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as here:
        yield here


@pytest.fixture(scope="module")
def impatient() -> Iterator[Running]:
    """A server that waits for nobody."""
    with running(config=SHORT) as here:
        yield here


def is_right(server: Running) -> bool:
    answer = server.ask("POST", PATH, BODY)
    logits = np.array(answer.json["outputs"][0]["data"], np.float32)
    return bool(np.array_equal(logits, mean_of_each_row({"image": IMAGE})["logits"][0]))


def ended(client: socket.socket) -> bool:
    """Waits for the server to end a connection, and says that it did."""
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def test_half_a_head_is_waited_for_only_so_long(impatient: Running) -> None:
    with impatient.connect() as client:
        client.sendall(b"GET /v2 HTTP/1.1\r\nHost: h\r\n")
        answer = read_answer(client)
        assert answer.status == 408
        assert answer.error == "the head of the request had not come after 0.5 s"
        assert ended(client)


def test_a_head_that_comes_drop_by_drop_is_late_too(impatient: Running) -> None:
    with impatient.connect() as client:
        client.settimeout(0.05)
        answer = b""
        for _ in range(1000):
            client.sendall(b"GET /v2 HTTP/1.1\r\nX: " if not answer else b"x")
            try:
                answer += client.recv(100) or b"."
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")


def test_the_second_head_of_a_connection_is_waited_for_only_so_long(impatient: Running) -> None:
    with impatient.connect() as client:
        client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
        assert read_answer(client).status == 200
        client.sendall(b"GET /v2/health/live HTTP/1.1\r\n")
        assert read_answer(client).status == 408


def test_an_idle_connection_is_ended(impatient: Running) -> None:
    with impatient.connect() as never_asked, impatient.connect() as asked:
        asked.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
        assert read_answer(asked).status == 200
        assert ended(never_asked)
        assert ended(asked)


@pytest.mark.parametrize("chunked", [False, True])
def test_half_a_body_is_waited_for_only_so_long(impatient: Running, chunked: bool) -> None:
    with impatient.connect() as client:
        length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 100"
        client.sendall(f"POST {PATH} HTTP/1.1\r\nHost: h\r\n{length}\r\n\r\n".encode())
        client.sendall(b"5\r\n12345\r\n" if chunked else b"12345")
        answer = read_answer(client)
        assert answer.status == 408
        assert answer.error.startswith("the body came too slowly: 5 bytes; expected at least 100,")
        assert answer.headers["connection"] == "close"
        assert ended(client)


def test_the_time_of_a_request_ends_while_its_body_comes(server: Running) -> None:
    with server.connect() as client:
        client.sendall(http(b"", length=9, x_request_timeout_ms=50))
        answer = read_answer(client)
        assert answer.status == 504
        assert answer.error == "the body had not come when the time of the request was over"


def test_who_does_not_read_is_parted_with() -> None:
    def widen(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": np.zeros((1, 2**23), np.float32)}  # 32 MiB

    spec = TensorSpec("x", "FP32", (-1, 1))
    outputs = (TensorSpec("y", "FP32", (-1, -1)),)
    wide = replace(DIGITS, name="wide", inputs=(spec,), outputs=outputs, class_names=())
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}
    body = json.dumps({"parameters": {"binary_data_output": True}, "inputs": [tensor]}).encode()
    with running((wide, widen), config=SHORT) as here, here.connect() as client:
        client.sendall(http(body, "/v2/models/wide/infer"))
        while here.run(open_connections(here)):
            time.sleep(0.01)
        with here.connect() as reader:
            reader.sendall(http(body, "/v2/models/wide/infer"))
            assert len(read_answer(reader).body) > 2**25


async def busy_connections(here: Running) -> int:
    return sum(not one.is_idle for one in here.server._listener.connections._open)


async def open_connections(here: Running) -> int:
    return len(here.server._listener.connections._open)


class StuckTransport(asyncio.Transport):
    """Of a client that does not read: what it is sent stays, so that it never ends by itself."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def get_write_buffer_size(self) -> int:
        return 1


def test_who_does_not_read_the_little_that_is_left_at_the_end_is_parted_with() -> None:
    async def never(request: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError

    async def run() -> None:
        connections = Connections(never, HttpConfig(stall_s=0.05))
        connection = connections()
        connection.connection_made(StuckTransport(connection))
        connection.force_close()
        await connections._none.wait()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_many_idle_and_slow_connections_hurt_nobody(server: Running) -> None:
    with ExitStack() as stack:
        slow = []
        for number in range(350):
            client = stack.enter_context(server.connect())
            if number < 50:
                slow.append(client)
        for client in slow[:25]:
            client.sendall(b"POST /v2/models/digits/infer HTTP/1.1\r\nHo")
        for client in slow[25:]:
            client.sendall(http(BODY)[:-1])
        assert all(is_right(server) for _ in range(20))
        for client in slow[25:]:  # and they are answered once they are done
            client.sendall(BODY[-1:])
            assert read_answer(client).status == 200


def test_the_connection_that_is_idle_the_longest_makes_room() -> None:
    with running(config=HttpConfig(max_connections=3)) as here, ExitStack() as stack:
        first, second, third = (stack.enter_context(here.connect()) for _ in range(3))
        first.sendall(http(BODY)[:-1])
        while here.run(open_connections(here)) < 3 or here.run(busy_connections(here)) != 1:
            time.sleep(0.001)
        fourth = stack.enter_context(here.connect())
        assert ended(second)
        for client in (third, fourth):
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
            assert read_answer(client).status == 200
        first.sendall(BODY[-1:])
        assert read_answer(first).status == 200


def test_when_all_connections_are_busy_there_is_no_room() -> None:
    with running(config=HttpConfig(max_connections=2)) as here, ExitStack() as stack:
        busy = [stack.enter_context(here.connect()) for _ in range(2)]
        for client in busy:
            client.sendall(http(BODY)[:-1])
        while here.run(busy_connections(here)) < 2:
            time.sleep(0.001)
        with here.connect() as more:
            answer = read_answer(more)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.error == "too many connections; try again later"
            assert ended(more)
        for client in busy:
            client.sendall(BODY[-1:])
            assert read_answer(client).status == 200


def test_a_client_may_wait_for_its_body_to_be_welcome(server: Running) -> None:
    with server.connect() as client:
        head, _, body = http(BODY, Expect="100-continue").partition(b"\r\n\r\n")
        client.sendall(head + b"\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert read_answer(client).status == 200
    refused = server.send(http(b"", length=2**30, Expect="100-continue"))
    assert refused.status == 413
    refused = server.send(http(b"", length=5, Expect="a-miracle"))
    assert (refused.status, refused.error[:8]) == (417, "expect: ")


def test_requests_of_one_connection_are_answered_in_their_order(server: Running) -> None:
    """Sent at once, without waiting for the answers before."""
    sent = [(BODY, "a"), (b"{", "b"), (BODY, "c")]
    with server.connect() as client:
        client.sendall(b"".join(http(body, x_request_id=name) for body, name in sent))
        received = b""
        while received.count(b"HTTP/1.1 ") < 3:
            received += client.recv(65536)
    parts = received.split(b"HTTP/1.1 ")[1:]
    assert [part[:3] for part in parts] == [b"200", b"400", b"200"]
    assert all(f"x-request-id: {n}".encode() in p for p, (_, n) in zip(parts, sent, strict=True))


def test_a_connection_that_breaks_off_is_no_error(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    for length in (1, 30, len(http(BODY)) - 1, len(binary()) // 2):
        with server.connect() as client:
            client.sendall(binary()[:length])
    assert is_right(server)
    assert not caplog.records
