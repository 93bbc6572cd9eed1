"""The one error of the clients."""

from typing import Any

import grpc

# The caller's mistake, as opposed to the server's state: the server's address says nothing then.
BAD_INPUT = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


class InferenceError(Exception):
    """The server refused, failed, could not be reached, or answered what is not the protocol.

    Args:
        code: the gRPC status.
        message: in one line.
        attempts: how often the server was asked.
        pushback_s: after how long the server said to try again; infinite: never; None: it said
            nothing.
        connection_lost: the connection ended after the request had left, so that nobody knows
            whether the server computed.
        request_id: of a request in a stream.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        attempts: int = 1,
        pushback_s: float | None = None,
        connection_lost: bool = False,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.attempts = attempts
        self.pushback_s = pushback_s
        self.connection_lost = connection_lost
        self.request_id = request_id

    def __reduce__(self) -> tuple[object, ...]:
        """Lets it travel to another process, such as from a pool of workers."""
        return _rebuilt, (self.code, str(self), self.__dict__)


def _rebuilt(code: grpc.StatusCode, message: str, state: dict[str, Any]) -> InferenceError:
    error = InferenceError(code, message)
    error.__dict__.update(state)
    return error
