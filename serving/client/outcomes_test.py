"""What became of a call is told from what it returned or raised."""

import grpc
import pytest

from serving.client.errors import InferenceError
from serving.client.load import Status
from serving.client.outcomes import status_of
from serving.client.results import InferResult


def result(attempts: int) -> InferResult:
    return InferResult({}, "m", "1", "", {}, {}, attempts)


def test_answers() -> None:
    assert status_of(result(1)) is Status.ANSWERED
    assert status_of(result(3)) is Status.RETRIED
    assert status_of(None) is Status.ANSWERED


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_every_code_has_its_status(code: grpc.StatusCode) -> None:
    expected = {
        "RESOURCE_EXHAUSTED": Status.REFUSED,
        "UNAVAILABLE": Status.REFUSED,
        "DEADLINE_EXCEEDED": Status.LATE,
        "CANCELLED": Status.LOST,
    }.get(code.name, Status.FAILED)
    assert status_of(InferenceError(code, "m")) is expected


def test_a_lost_connection_is_no_refusal() -> None:
    error = InferenceError(grpc.StatusCode.UNAVAILABLE, "m", connection_lost=True)
    assert status_of(error) is Status.LOST


def test_other_exceptions() -> None:
    assert status_of(TimeoutError()) is Status.LATE
    assert status_of(RuntimeError()) is Status.FAILED
