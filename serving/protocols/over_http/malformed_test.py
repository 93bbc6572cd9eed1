"""Whatever is sent is answered with the right status and says what is expected; nothing breaks."""

import logging
import random
import re
import select
from collections.abc import Iterator

import numpy as np
import pytest

from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.testing.malformed import (
    IMAGE,
    PATH,
    SEED,
    Case,
    binary,
    good,
    tensor_cases,
)
from serving.protocols.over_http.testing.malformed_bodies import body_cases
from serving.protocols.over_http.testing.malformed_http import http_cases
from serving.protocols.over_http.testing.running import Running, read_answer, running
from serving.testing.local_replica import mean_of_each_row

CASES = [*tensor_cases(), *body_cases(), *http_cases()]
DAMAGED = 200
# What is not answered until then lacks bytes, and is given some.
WAIT_S = 0.1
PADDING = b"\r\n\r\n" + bytes(64)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    # A length that has become larger is waited for in vain.
    with running(config=HttpConfig(header_s=1.0, stall_s=1.0)) as here:
        yield here


def assert_still_right(server: Running) -> None:
    answer = server.ask("POST", PATH, good())
    assert answer.status == 200
    np.testing.assert_array_equal(
        np.array(answer.json["outputs"][0]["data"], np.float32),
        mean_of_each_row({"image": IMAGE})["logits"].ravel(),
    )


def test_there_are_many_cases_and_each_has_its_name() -> None:
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_malformed_is_refused(
    server: Running, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = server.send(case.request)
    assert answer.status == case.status, answer.error
    assert "\n" not in answer.error
    assert len(answer.error) < 1000
    assert re.search(case.message, answer.error), answer.error
    assert not caplog.records


def test_damaged_requests_are_answered_and_never_break_the_server(server: Running) -> None:
    """Bytes of good requests at random places become others, or are lost."""
    rng = random.Random(SEED)
    statuses = set()
    for _ in range(DAMAGED):
        request = bytearray(binary())
        for _ in range(rng.randint(1, 6)):
            place = rng.randrange(len(request))
            if rng.random() < 0.5:
                request[place] = rng.randrange(256)
            else:
                del request[place : place + rng.randint(1, 4)]
        with server.connect() as client:
            client.sendall(request)
            if not select.select([client], [], [], WAIT_S)[0]:
                client.sendall(PADDING)
            statuses.add(read_answer(client).status)
    assert {200, 400} <= statuses
    assert not [status for status in statuses if status >= 500]


def test_a_good_request_is_still_right(server: Running) -> None:
    """The last of this module: after all that, the same server answers as ever."""
    assert_still_right(server)
