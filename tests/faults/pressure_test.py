"""What a gateway leans on stops, and callers that are no callers hold on to it, under load.

Nobody who asks rightly is refused, told wrongly or kept waiting, and afterwards the gateway has
what it had before. What was counted is in the target's log, and of one run in docs/reliability.md.
"""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import pytest

from registry.artifact import load
from serving.testing.example import example_images, publish_example
from serving.testing.gateway_process import START_S, Gateway, fetch, running, wait_until
from serving.testing.redis_process import RedisProcess, running_redis
from serving.testing.rude_client import rude_client
from tests.faults.callers import RIGHT, TOO_MUCH, Question, example_questions
from tests.faults.events import Record, during, note

# More than the gateway's own cache holds, of a few hundred bytes each, so that Redis is asked.
NUM_QUESTIONS = 64
CACHE_BYTES = 4096

IDLE = 300
SLOW = 50
# While 128 callers ask.
SCRAPES = 20

REDIS = "gateway_redis_{}_total"
INFER = "/v2/models/digits/infer"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pressure") / "artifact"
    publish_example(directory)
    return directory


@pytest.fixture(scope="module")
def asked(artifact: Path) -> Sequence[Question]:
    return example_questions(load(artifact), NUM_QUESTIONS)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with running_redis() as process:
        yield process


@pytest.fixture(scope="module")
def gateway(
    artifact: Path, redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    log = tmp_path_factory.mktemp("log") / "gateway.log"
    cache = ["--cache.enabled", "--cache.max-bytes", CACHE_BYTES, "--redis.url", redis.url]
    with running("--model", artifact, *cache, "--log.success-rate", 0, log=log) as gateway:
        yield gateway


def scrape(gateway: Gateway) -> dict[str, float]:
    """Every series without labels that /metrics has."""
    lines = [line.split() for line in fetch(gateway.admin, "/metrics").splitlines()]
    return {line[0]: float(line[1]) for line in lines if line[0] != "#" and "{" not in line[0]}


def has_grown(gateway: Gateway, name: str, before: dict[str, float]) -> bool:
    return scrape(gateway)[REDIS.format(name)] > before[REDIS.format(name)]


@pytest.mark.parametrize("fault", ["stopped", "killed"])
def test_without_redis_all_are_answered_and_with_it_again_it_is_asked(
    gateway: Gateway,
    redis: RedisProcess,
    asked: Sequence[Question],
    fault: str,
    record_property: Record,
) -> None:
    before = scrape(gateway)
    counts = during(gateway, asked, lambda: None, lambda: has_grown(gateway, "hits", before))
    note(record_property, "with Redis", counts)
    assert set(counts.results) == {RIGHT}, counts.details

    before = scrape(gateway)
    begin, end = {
        "stopped": (redis.freeze, redis.thaw),
        "killed": (redis.stop, redis.start),
    }[fault]
    counts = during(gateway, asked, begin, lambda: has_grown(gateway, "failures", before))
    end()
    note(record_property, f"Redis {fault}", counts)
    assert set(counts.results) == {RIGHT}, counts.details

    before = scrape(gateway)
    counts = during(gateway, asked, lambda: None, lambda: has_grown(gateway, "hits", before))
    assert set(counts.results) == {RIGHT}, counts.details


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=START_S)


def half_a_request(address: str) -> socket.socket:
    """Sends the head of a request and a part of its body, and never the rest."""
    sock = connect(address)
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    sock.sendall(head.encode() + b"{" + bytes(1000))
    return sock


def unread_answers(address: str) -> socket.socket:
    """Asks for far more than a socket's memory holds, and reads nothing of it."""
    sock = connect(address)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
    return sock


@contextmanager
def held_connections(gateway: Gateway, message: bytes) -> Iterator[None]:
    """Idle ones, halves of requests, and readers that never read: half of each over gRPC."""
    with ExitStack() as held:
        for number in range(IDLE):
            held.enter_context(connect((gateway.grpc, gateway.http)[number % 2]))
        for number in range(SLOW // 2):
            is_half = number % 2 == 0
            way = half_a_request if is_half else unread_answers
            held.enter_context(way(gateway.http))
            call = held.enter_context(rude_client(gateway.grpc, window=65_535 if is_half else 0))
            call.begin_call()
            call.send(message, part=len(message) // 2 if is_half else None)
        yield


class HttpCaller(threading.Thread):
    """Asks over HTTP without pause until it is ended, and keeps the statuses."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.statuses: set[int] = set()
        self.answers = 0
        self._address = address
        self._ended = threading.Event()
        data = example_images(1)
        tensor = {"name": "image", "datatype": "FP32", "shape": data.shape}
        self._body = json.dumps({"inputs": [tensor | {"data": data.ravel().tolist()}]})

    def run(self) -> None:
        """Asks."""
        with closing(http.client.HTTPConnection(self._address, timeout=START_S)) as connection:
            while not self._ended.is_set():
                connection.request("POST", INFER, self._body)
                reply = connection.getresponse()
                reply.read()
                self.statuses.add(reply.status)
                self.answers += 1

    def end(self) -> None:
        """Ends after the request that runs."""
        self._ended.set()
        self.join(START_S)


def test_idle_and_slow_connections_keep_nobody_from_an_answer(
    gateway: Gateway, asked: Sequence[Question], record_property: Record
) -> None:
    process = psutil.Process(gateway.process.pid)
    note(record_property, "alone", during(gateway, asked, lambda: None))
    files, memory = process.num_fds(), process.memory_info().rss
    http_caller = HttpCaller(gateway.http)
    http_caller.start()
    with ExitStack() as held:
        message = asked[0].message.SerializeToString()
        counts = during(
            gateway,
            asked,
            lambda: held.enter_context(held_connections(gateway, message)),
            lambda: process.num_fds() >= files + IDLE + SLOW // 2,
        )
        during(gateway, asked, lambda: None)
    http_caller.end()
    note(record_property, f"{IDLE} idle and {SLOW} slow connections", counts)
    assert set(counts.results) == {RIGHT}, counts.details
    assert http_caller.statuses == {200}
    assert http_caller.answers > 1
    # The sockets of those who called meanwhile, and those of Redis, come and go.
    wait_until(lambda: process.num_fds() <= files + 16)
    grown = process.memory_info().rss - memory
    record_property("memory that stays, MiB", round(grown / 2**20, 1))
    assert grown < 64 * 2**20


def test_the_page_of_a_saturated_gateway_comes(
    gateway: Gateway, asked: Sequence[Question], record_property: Record
) -> None:
    took_s: list[float] = []

    def look() -> bool:
        begin = time.monotonic()
        assert "gateway_inflight_requests" in scrape(gateway)
        took_s.append(time.monotonic() - begin)
        return len(took_s) == SCRAPES

    counts = during(gateway, asked, lambda: None, look, callers=128)
    note(record_property, "128 callers", counts)
    p50, most = sorted(took_s)[SCRAPES // 2], max(took_s)
    record_property("a scrape meanwhile, seconds", {"p50": round(p50, 3), "max": round(most, 3)})
    # More callers than a burst: on a machine that is slow for a moment, some are sent away.
    assert set(counts.results) <= {RIGHT, TOO_MUCH}, counts.details
    assert counts.answered > counts.results[TOO_MUCH]
    assert counts.unhinted == 0
