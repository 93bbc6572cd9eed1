"""Ends calls with the status of an error."""

from typing import NoReturn

import grpc

from serving.core.errors import ServingError
from serving.protocols.request_ids import HEADER
from serving.protocols.statuses import STATUSES, retry_pushback_ms

# gRPC sends the text of an error in a header, percent-encoded, and peers limit headers to 8 KiB.
_MAX_DETAILS_BYTES = 2048

_PUSHBACK = "grpc-retry-pushback-ms"


async def abort(
    context: grpc.aio.ServicerContext, error: ServingError, request_id: str = ""
) -> NoReturn:
    """Ends a call.

    Args:
        context: Of the call.
        error: Why.
        request_id: By which the log has it; "": it has none.

    Raises:
        AbortError: Always; gRPC expects it to leave the handler.
    """
    metadata = []
    if request_id:
        metadata.append((HEADER, request_id))
    if (pushback := retry_pushback_ms(error)) is not None:
        metadata.append((_PUSHBACK, pushback))
    await context.abort(STATUSES[error.kind].grpc, details_of(error), tuple(metadata))
    raise AssertionError("abort returned")


def forgetful(error: ServingError) -> ServingError:
    """The error without the frames that it came through, which hold the request."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def details_of(error: ServingError) -> str:
    """The message of an error in so many bytes as a header may have."""
    encoded = error.message.encode("utf-8", "replace")
    return encoded[:_MAX_DETAILS_BYTES].decode("utf-8", "ignore")
