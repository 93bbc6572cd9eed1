"""The one error that a request can end with, whatever protocol it came by.

`protocols/statuses.py` has the one table from `Kind` to the statuses of gRPC and HTTP.
"""

from enum import Enum

# Characters of a caller's text in a message.
MAX_QUOTED = 64


class Kind(Enum):
    """What went wrong, in the terms of those who asked."""

    # The request does not fit the model or the protocol; the message states what does.
    INVALID = "invalid"
    # No such model, version, or page.
    NOT_FOUND = "not_found"
    # Known, and not allowed here, such as loading a model without --allow-model-control.
    DENIED = "denied"
    # The request itself is larger than is ever accepted; trying again does not help.
    TOO_LARGE = "too_large"
    # A limit of this moment: a full queue, a rate. It was not computed; try again later.
    OVERLOADED = "overloaded"
    # Nobody can answer now: not ready, draining, no replica, breaker open. It was not computed.
    UNAVAILABLE = "unavailable"
    # The caller's deadline, or the server's own limit of time, has passed.
    DEADLINE = "deadline"
    # The caller went away.
    CANCELLED = "cancelled"
    # A fault of the server or the model. The message is an incident's number, no more.
    INTERNAL = "internal"


# Time for a caller to find another server.
_DRAINING_RETRY_S = 1.0

# The reason of a request whose computed outputs held infinite values or NaN, and were not sent.
NONFINITE_OUTPUT = "nonfinite_output"


class ServingError(Exception):
    """Why a request was not answered.

    Args:
        kind: what the caller can do about it.
        message: in plain words what was wrong and what is accepted. It is sent to the caller, so it
            holds nothing that the caller may not know.
        reason: a short label for metrics and logs, such as "queue_full"; by default the kind's.
        retry_after_s: when to try again; None: nothing is known, or trying again is of no use.
    """

    def __init__(
        self, kind: Kind, message: str, *, reason: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.reason = reason or kind.value
        self.retry_after_s = retry_after_s


def invalid(message: str) -> ServingError:
    """An error of the caller's: the request does not fit the model or the protocol."""
    return ServingError(Kind.INVALID, message)


def draining() -> ServingError:
    """Why nothing is answered that comes when the server ends."""
    return ServingError(
        Kind.UNAVAILABLE,
        "the server is shutting down",
        reason="draining",
        retry_after_s=_DRAINING_RETRY_S,
    )


def quote(text: str) -> str:
    """Text from a request as it may appear in an error: gRPC sends errors in a small header."""
    return repr(text) if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]!r}..."
