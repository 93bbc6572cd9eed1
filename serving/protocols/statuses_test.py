"""Every error has a status in both protocols, and the pairs are those of google.rpc.Code."""

import grpc
import pytest

from serving.core.errors import Kind, ServingError
from serving.protocols.statuses import STATUSES, retry_after, retry_pushback_ms

# Transcribed from google/rpc/code.proto, "HTTP Mapping".
CANONICAL = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_the_canonical_pair(kind: Kind) -> None:
    status = STATUSES[kind]
    expected = 413 if kind is Kind.TOO_LARGE else CANONICAL[status.grpc.name]
    assert status.http == expected


def test_what_went_wrong_is_told_apart() -> None:
    assert {kind: status.grpc.name for kind, status in STATUSES.items()} == {
        Kind.INVALID: "INVALID_ARGUMENT",
        Kind.DENIED: "PERMISSION_DENIED",
        Kind.NOT_FOUND: "NOT_FOUND",
        Kind.TOO_LARGE: "RESOURCE_EXHAUSTED",
        Kind.OVERLOADED: "RESOURCE_EXHAUSTED",
        Kind.CANCELLED: "CANCELLED",
        Kind.INTERNAL: "INTERNAL",
        Kind.UNAVAILABLE: "UNAVAILABLE",
        Kind.DEADLINE: "DEADLINE_EXCEEDED",
    }
    assert grpc.StatusCode.OK not in {status.grpc for status in STATUSES.values()}


@pytest.mark.parametrize("kind", [Kind.OVERLOADED, Kind.UNAVAILABLE])
@pytest.mark.parametrize(
    ("after_s", "milliseconds", "seconds"),
    [
        (0.0, "0", "1"),
        (0.0001, "1", "1"),
        (0.25, "250", "1"),
        (1.0, "1000", "1"),
        (1.001, "1001", "2"),
        (1e9, "2147483647", "1000000000"),
    ],
)
def test_client_is_told_when_to_try_again(
    kind: Kind, after_s: float, milliseconds: str, seconds: str
) -> None:
    error = ServingError(kind, "later", retry_after_s=after_s)
    assert retry_pushback_ms(error) == milliseconds
    assert retry_after(error) == seconds


def test_what_is_too_large_is_never_to_be_tried_again() -> None:
    error = ServingError(Kind.TOO_LARGE, "too large", retry_after_s=1.0)
    pushback = retry_pushback_ms(error)
    assert pushback is not None
    assert int(pushback) < 0
    assert retry_after(error) is None


def test_other_errors_say_nothing_of_trying_again() -> None:
    for error in [
        ServingError(Kind.OVERLOADED, "not known when"),
        ServingError(Kind.INVALID, "never", retry_after_s=1.0),
    ]:
        assert retry_pushback_ms(error) is None
        assert retry_after(error) is None
