"""What is sent back: JSON, or JSON with tensors after it; and how errors look in HTTP."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson

from serving.core.errors import Kind, ServingError, quote
from serving.protocols.statuses import STATUSES, retry_after

JSON = "application/json"
OCTETS = "application/octet-stream"

# Bytes of the JSON at the beginning of a body that has tensors after it.
HEADER_LENGTH = "Inference-Header-Content-Length"

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE

_NOTHING: Mapping[str, str] = {}


class Reply(NamedTuple):
    """What a request is answered with.

    Attributes:
        status: of HTTP.
        body: all of it.
        content_type: of the body.
        headers: beside the usual ones.
    """

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = _NOTHING


class HttpError(ServingError):
    """An error that only HTTP knows, such as a method that a page does not have.

    Args:
        status: of HTTP.
        message: as of ServingError.
        headers: of the reply.
    """

    def __init__(
        self, status: HTTPStatus, message: str, headers: Mapping[str, str] = _NOTHING
    ) -> None:
        super().__init__(Kind.INVALID, message, reason=status.name.lower())
        self.status = int(status)
        self.headers = headers


def json_line(value: Any) -> bytes:
    """A value as a line of JSON; arrays of numpy are lists of numbers.

    It ends as a line does for those who read it in a terminal.
    """
    return orjson.dumps(value, option=_OPTIONS)


def json_reply(value: Any, status: int = 200) -> Reply:
    """A value as JSON."""
    return Reply(status, json_line(value))


def refusal(error: ServingError) -> Reply:
    """An error as every page tells it: `{"error": "..."}`."""
    body = json_line({"error": error.message})
    if isinstance(error, HttpError):
        return Reply(error.status, body, JSON, error.headers)
    status = STATUSES[error.kind].http
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return Reply(status, body, JSON, {"Retry-After": retry_after(error) or "1"})
    return Reply(status, body)


def method_not_allowed(method: str, allowed: Iterable[str]) -> HttpError:
    """A page does not have this method."""
    listed = ", ".join(sorted(allowed))
    return HttpError(
        HTTPStatus.METHOD_NOT_ALLOWED,
        f"{quote(method)} is not answered here; expected {listed}",
        {"Allow": listed},
    )
