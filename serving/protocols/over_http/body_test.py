"""Bodies are bounded: each of them, all that are read at once, and what comes out of them."""

import json
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.testing.malformed import PATH, good, http
from serving.protocols.over_http.testing.running import Running, read_answer, running

SMALL = HttpConfig(max_body_bytes=2**22, max_reading_bytes=2**23)
BODY = json.dumps(good()).encode()


@pytest.fixture(scope="module")
def small() -> Iterator[Running]:
    """A server for small bodies, and few of them at once."""
    with running(config=SMALL) as here:
        yield here


def test_bodies_that_are_read_at_once_are_bounded(small: Running) -> None:
    """Two bodies of 3.9 MiB are on their way; a third one would be more than 8 MiB of all."""
    most, part = SMALL.max_body_bytes - 100_000, 100_000
    with ExitStack() as stack:
        clients = []
        for _ in range(2):
            client = stack.enter_context(small.connect())
            client.sendall(http(bytes(most - part), length=most))
            clients.append(client)
        uploads = small.server._service.uploads
        while uploads.bytes < 2 * (most - part):
            time.sleep(0.001)
        refused = small.send(http(b"", length=most))
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "bytes are being read; try again later" in refused.error
        assert small.ask("POST", PATH, BODY).status == 200
    while uploads.bytes:
        time.sleep(0.001)


@pytest.mark.parametrize("extra", [0, 1])
def test_the_largest_body_is_read_and_one_byte_more_is_not(small: Running, extra: int) -> None:
    size = SMALL.max_body_bytes + extra
    half = b"x" * (size // 2)
    rest = b"x" * (size - len(half))
    whole = http(half + rest)
    chunked = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunked += b"".join(f"{len(one):x}\r\n".encode() + one + b"\r\n" for one in (half, rest, b""))
    for request in (whole, chunked):
        with small.connect() as client:
            try:
                client.sendall(request)
            except ConnectionError:  # it was answered before it was all sent
                assert extra
            answer = read_answer(client)
        assert answer.status == (413 if extra else 400)
        expected = "expected at most 4,194,304 bytes" if extra else "no JSON that is accepted here"
        assert expected in answer.error


def test_what_is_inflated_is_counted_as_it_is_inflated(small: Running) -> None:
    bomb = zlib.compress(bytes(2**28))  # 260 KB
    answer = small.send(http(bomb, Content_Encoding="deflate"))
    assert answer.status == 413
    for broken in (bomb[:1000], zlib.compress(BODY) + b"more", b"no zlib"):
        answer = small.send(http(broken, Content_Encoding="deflate"))
        assert (answer.status, answer.error[:38]) == (400, "the body is not compressed as it says:")
