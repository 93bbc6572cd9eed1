"""What the server holds in memory is bounded, and let go at once.

The server has a process of its own.
"""

import ctypes
import json
import multiprocessing
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import pytest

from base.memory import peak_resident_bytes, resident_bytes
from serving.core.outcome import NoObserver
from serving.core.signature import TensorSpec
from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.testing.malformed import http
from serving.protocols.over_http.testing.running import PATIENCE_S, read_answer, running
from serving.testing.grpc_process import NeverAnswers
from serving.testing.served_models import DIGITS

MIB = 2**20
UPLOADS = 10
UPLOAD_BYTES = 60 * MIB
BUDGET_BYTES = 128 * MIB
ADMITTED = BUDGET_BYTES // UPLOAD_BYTES


@dataclass
class Measured:
    """A server in a process of its own."""

    port: int
    _pipe: Connection

    def ask(self, what: str) -> int:
        """How many `requests` it answers, or the bytes that it has, `kept` or at its `peak`."""
        self._pipe.send(what)
        assert self._pipe.poll(PATIENCE_S)
        return int(self._pipe.recv())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)


@contextmanager
def process() -> Iterator[Measured]:
    """Serves a model `large` that takes UPLOAD_BYTES, and never answers."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs,), daemon=True)
    child.start()
    try:
        assert ours.poll(PATIENCE_S)
        yield Measured(ours.recv(), ours)
    finally:
        ours.send("end")
        child.join(PATIENCE_S)


def _serve(pipe: Connection) -> None:
    outputs = (TensorSpec("y", "UINT8", (-1, 1)),)
    large = replace(
        DIGITS,
        name="large",
        inputs=(TensorSpec("x", "UINT8", (-1, UPLOAD_BYTES)),),
        outputs=outputs,
        class_names=(),
    )
    config = HttpConfig(max_reading_bytes=BUDGET_BYTES)
    with running((large, NeverAnswers()), config=config, max_bytes=BUDGET_BYTES) as here:
        here.local.recorder.done = NoObserver().done  # type: ignore[method-assign]
        pipe.send(here.port)
        while (question := pipe.recv()) != "end":
            if question == "requests":
                pipe.send(here.local.admission.requests)
            elif question == "peak":
                pipe.send(peak_resident_bytes())
            else:
                ctypes.CDLL(None).malloc_trim(0)
                pipe.send(resident_bytes())


def wait_for(condition: Callable[[], object]) -> None:
    """Returns once something is true that another process makes true."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("binary", [True, False])
def test_uploads_at_once_are_bounded_and_let_go(
    binary: bool, record_property: Callable[[str, object], None]
) -> None:
    """Ten uploads of 60 MiB, of which a budget of 128 MiB lets two in; nobody is ever answered."""
    tensor = {"name": "x", "datatype": "UINT8", "shape": [1, UPLOAD_BYTES]}
    sized = tensor | {"parameters": {"binary_data_size": UPLOAD_BYTES}}
    head = json.dumps({"inputs": [sized]}).encode()
    body = head + bytes(UPLOAD_BYTES) if binary else b"[" * UPLOAD_BYTES
    length = len(head) if binary else None
    request = http(body, "/v2/models/large/infer", Inference_Header_Content_Length=length)
    statuses: list[int] = []

    def upload(client: socket.socket) -> None:
        try:
            client.sendall(request)
            statuses.append(read_answer(client).status)
        except OSError:  # it was refused before all was sent, or is closed below
            statuses.append(0)

    with process() as server:
        before = server.ask("kept")
        clients = [server.connect() for _ in range(UPLOADS)]
        threads = [threading.Thread(target=upload, args=[client]) for client in clients]
        for thread in threads:
            thread.start()
        admitted = ADMITTED if binary else 0
        wait_for(lambda: len(statuses) == UPLOADS - admitted)
        wait_for(lambda: server.ask("requests") == admitted)
        assert set(statuses) <= {0, 429, 413}
        peak, held = server.ask("peak") - before, server.ask("kept") - before
        for client in clients:
            with suppress(OSError):  # it is closed already
                client.shutdown(socket.SHUT_RDWR)  # which ends what its thread waits for
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()
        wait_for(lambda: server.ask("kept") - before < UPLOAD_BYTES // 2)
    for name, value in (("peak", peak), ("held", held)):
        record_property(f"{name} MiB", value // MIB)
    # What is read, what is answered, and what reading takes beside.
    assert peak < 2 * BUDGET_BYTES + UPLOAD_BYTES
    assert held < admitted * UPLOAD_BYTES + UPLOAD_BYTES // 2


def test_a_small_body_that_unpacks_to_a_large_one_is_refused() -> None:
    bomb = zlib.compress(bytes(2**29))
    with process() as server:
        before = server.ask("peak")
        with server.connect() as client:
            client.sendall(http(bomb, "/v2/models/large/infer", Content_Encoding="deflate"))
            assert read_answer(client).status == 413
        assert server.ask("peak") - before < HttpConfig().max_body_bytes + 32 * MIB
