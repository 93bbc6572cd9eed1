"""The end of the server: who was taken is answered, and who comes after is told so."""

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.protocols.over_http.testing.malformed import good, http
from serving.protocols.over_http.testing.running import read_answer, running
from serving.testing.held_channels import HeldChannel
from serving.testing.local_replica import mean_of_each_row
from serving.testing.served_models import DIGITS

CALLERS = 8


def test_while_draining_requests_are_answered_and_clients_sent_elsewhere() -> None:
    with running() as here:
        here.loop.call_soon_threadsafe(here.local.engine.drain)
        assert here.ask("GET", "/v2/health/ready").json == {
            "ready": False,
            "error": "the server is shutting down",
        }
        answer = here.send(http(json.dumps(good()).encode()))
        assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_who_is_being_answered_at_the_end_is_answered() -> None:
    """The end begins while one request is computed and another one's body is on its way."""
    channel = HeldChannel("a")
    body = json.dumps(good()).encode()
    with (
        running((DIGITS, channel)) as here,
        here.connect() as first,
        here.connect() as second,
        here.connect() as idle,
    ):
        first.sendall(http(body))
        second.sendall(http(body)[:-10])
        while not channel.jobs:
            time.sleep(0.001)
        ending = threading.Thread(target=lambda: here.run(here.server.stop(60)))
        ending.start()
        assert idle.recv(1) == b""
        second.sendall(body[-10:])
        here.loop.call_soon_threadsafe(channel.finish, mean_of_each_row)
        while len(channel.jobs) < 2:
            time.sleep(0.001)
        here.loop.call_soon_threadsafe(channel.finish, mean_of_each_row)
        for client in (first, second):
            answer = read_answer(client)
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert client.recv(1) == b""
        ending.join(60)
        with pytest.raises(ConnectionRefusedError):
            here.connect()


def test_who_asks_again_and_again_is_told_to_come_back_and_loses_no_answer() -> None:
    statuses: Counter[int] = Counter()
    request = http(json.dumps(good()).encode())

    with running() as here, ThreadPoolExecutor(CALLERS) as threads:

        def ask() -> tuple[int, str, str]:
            """Asks until it is refused, on a new connection each time, and returns how it was."""
            answered = 0
            while True:
                try:
                    answer = here.send(request)
                except ConnectionError:
                    return answered, "nobody", ""
                if answer.status != 200:
                    return answered, str(answer.status), answer.headers["retry-after"]
                answered += 1
                statuses[200] += 1

        callers = [threads.submit(ask) for _ in range(CALLERS)]
        while statuses[200] < 100:
            time.sleep(0.001)
        here.run(here.server.stop(60))
        told = [caller.result(60) for caller in callers]
        answered = [o for o in here.local.recorder.outcomes if o.error is None]
        refused = [o for o in here.local.recorder.outcomes if o.error is not None]
    assert sum(number for number, _, _ in told) == len(answered)
    # It goes on saying so until nobody comes; who is late finds nobody.
    assert {how[1:] for how in told} <= {("503", "1"), ("nobody", "")}
    assert ("503", "1") in {how[1:] for how in told}
    assert {o.error.reason for o in refused if o.error} == {"draining"}
