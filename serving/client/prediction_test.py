"""`POST /predict` asked of a real HTTP server, which answers as it is told."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest

from serving.client.errors import InferenceError
from serving.client.prediction import predict_image

REPLY = {"predictions": [{"class": "4", "probability": 0.9}], "model": "digits"}


class Seen:
    """The last request: its path, headers, and body."""

    path = ""
    headers: Any = None
    body: Any = None


@contextmanager
def http_server(status: int, content: bytes, seen: Seen | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if seen is not None:
                seen.path, seen.headers, seen.body = self.path, self.headers, json.loads(body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_picture_is_sent_in_base64() -> None:
    seen = Seen()
    with http_server(200, json.dumps(REPLY).encode(), seen) as address:
        reply = predict_image(
            address, b"\x89PNG\0", model="digits", version="1", top_k=3, timeout_s=7.0
        )
    assert reply == REPLY
    assert seen.path == "/predict"
    assert seen.headers["x-request-timeout-ms"] == "7000"
    assert base64.b64decode(seen.body["image"]) == b"\x89PNG\0"
    rest = {"model": "digits", "version": "1", "top_k": 3}
    assert {name: value for name, value in seen.body.items() if name != "image"} == rest


def test_what_is_not_said_is_not_sent() -> None:
    seen = Seen()
    with http_server(200, json.dumps(REPLY).encode(), seen) as address:
        predict_image(address, b"x")
    assert seen.body.keys() == {"image"}


@pytest.mark.parametrize(
    ("status", "code", "names_server"),
    [
        (400, grpc.StatusCode.INVALID_ARGUMENT, False),
        (404, grpc.StatusCode.NOT_FOUND, False),
        (413, grpc.StatusCode.RESOURCE_EXHAUSTED, True),
        (429, grpc.StatusCode.RESOURCE_EXHAUSTED, True),
        (500, grpc.StatusCode.INTERNAL, True),
        (503, grpc.StatusCode.UNAVAILABLE, True),
        (504, grpc.StatusCode.DEADLINE_EXCEEDED, True),
        (418, grpc.StatusCode.UNKNOWN, True),
    ],
)
def test_a_refusal_has_the_servers_words(
    status: int, code: grpc.StatusCode, names_server: bool
) -> None:
    with (
        http_server(status, b'{"error": "no good"}') as address,
        pytest.raises(InferenceError) as error,
    ):
        predict_image(address, b"x")
    assert error.value.code is code
    where = f"{address}: " if names_server else ""
    assert str(error.value) == f"{where}no good (HTTP {status})"


@pytest.mark.parametrize("content", [b"", b"<html>", b"[1]", b"\xff", b"null"])
def test_another_reply_is_named(content: bytes) -> None:
    with (
        http_server(200, content) as address,
        pytest.raises(InferenceError, match="status 200 is no JSON object") as error,
    ):
        predict_image(address, b"x")
    assert error.value.code is grpc.StatusCode.INTERNAL


def test_an_absent_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(InferenceError, match=f"{address}: no REST there: ") as error:
        predict_image(address, b"x")
    assert error.value.code is grpc.StatusCode.UNAVAILABLE


def test_something_else_than_http_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"PRI * HTTP/2.0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(
            InferenceError, match="no REST there; is that the port of gRPC"
        ) as error:
            predict_image(address, b"x")
        thread.join()
    assert error.value.code is grpc.StatusCode.UNAVAILABLE


def test_a_server_that_does_not_answer_is_left_at_the_deadline() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(InferenceError, match="no answer within 0.05 s") as error:
            predict_image(address, b"x", timeout_s=0.05)
    assert error.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_other_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        predict_image("http://localhost:8000", b"x")
