"""How errors are told: the one table from what went wrong to the statuses of gRPC and HTTP.

The pairs are those of google.rpc.Code, but for two: a request that is too large is 413 over HTTP,
which has a status for it, and one that was cancelled is 499, which no client ever reads.

Reference: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
"""

import math
from typing import NamedTuple

import grpc

from serving.core.errors import Kind, ServingError


class Status(NamedTuple):
    """One kind of error in both protocols.

    Attributes:
        grpc: The status code of the call.
        http: The status code of the reply.
    """

    grpc: grpc.StatusCode
    http: int


STATUSES: dict[Kind, Status] = {
    Kind.INVALID: Status(grpc.StatusCode.INVALID_ARGUMENT, 400),
    Kind.DENIED: Status(grpc.StatusCode.PERMISSION_DENIED, 403),
    Kind.NOT_FOUND: Status(grpc.StatusCode.NOT_FOUND, 404),
    Kind.TOO_LARGE: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 413),
    Kind.OVERLOADED: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    Kind.CANCELLED: Status(grpc.StatusCode.CANCELLED, 499),
    Kind.INTERNAL: Status(grpc.StatusCode.INTERNAL, 500),
    Kind.UNAVAILABLE: Status(grpc.StatusCode.UNAVAILABLE, 503),
    Kind.DEADLINE: Status(grpc.StatusCode.DEADLINE_EXCEEDED, 504),
}

# Of these a client knows that nothing was computed, so it may try again.
_MAY_BE_RETRIED = frozenset({Kind.OVERLOADED, Kind.UNAVAILABLE})

_NEVER = "-1"
_MAX_INT32 = 2**31 - 1


def retry_pushback_ms(error: ServingError) -> str | None:
    """The value of gRPC's trailer `grpc-retry-pushback-ms`; None: there is none.

    RESOURCE_EXHAUSTED is what clients are told to try again; of what is too large that is never of
    use, and a negative value says so.

    Reference: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
    """
    if error.kind is Kind.TOO_LARGE:
        return _NEVER
    if error.kind not in _MAY_BE_RETRIED or error.retry_after_s is None:
        return None
    return str(min(max(math.ceil(error.retry_after_s * 1e3), 0), _MAX_INT32))


def retry_after(error: ServingError) -> str | None:
    """The value of HTTP's header `Retry-After`, in whole seconds; None: there is none.

    Reference: RFC 9110, 10.2.3.
    """
    if error.kind not in _MAY_BE_RETRIED or error.retry_after_s is None:
        return None
    return str(max(math.ceil(error.retry_after_s), 1))
