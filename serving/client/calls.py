"""What both clients know of the protocol's calls, whoever waits for the answers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import grpc
from google.protobuf.message import DecodeError
from inference import grpc_service_pb2 as oip

from serving.client.connection import Connection, checked_address, checked_timeout
from serving.client.errors import BAD_INPUT, InferenceError
from serving.client.retries import PUSHBACK_KEY, Refusal, RetryPolicy, pushback_s

Response = TypeVar("Response")
Metadata = Sequence[tuple[str, str | bytes]]

_SERVICE = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

# How gRPC words the end of a connection on which a call was waiting for its answer. Where there was
# no connection at all it says so first.
_LOST = re.compile(
    r"(?!failed to connect).*"
    r"(Stream removed|Socket closed|Connection reset|Broken pipe|Cancelling all calls"
    r"|GOAWAY|keepalive|ping timeout)",
    re.IGNORECASE | re.DOTALL,
)

# How it words that nobody could be reached, and what the last attempt met.
_UNREACHED = re.compile(
    r"failed to connect to all addresses; last error: \w+: \S+ "
    r"(Failed to connect to remote host: )?(?P<reason>.*)",
    re.DOTALL,
)
_SPEAKS_HTTP_1 = "http1.x server"


class Method(NamedTuple, Generic[Response]):
    """A method of the protocol, by the type of its answer."""

    path: str
    response_type: type[Response]


def _method(name: str, response_type: type[Response]) -> Method[Response]:
    return Method(f"/{_SERVICE}/{name}", response_type)


SERVER_LIVE = _method("ServerLive", oip.ServerLiveResponse)
SERVER_READY = _method("ServerReady", oip.ServerReadyResponse)
MODEL_READY = _method("ModelReady", oip.ModelReadyResponse)
SERVER_METADATA = _method("ServerMetadata", oip.ServerMetadataResponse)
MODEL_METADATA = _method("ModelMetadata", oip.ModelMetadataResponse)
MODEL_INFER = _method("ModelInfer", oip.ModelInferResponse)
REPOSITORY_INDEX = _method("RepositoryIndex", oip.RepositoryIndexResponse)
MODEL_STREAM_INFER = _method("ModelStreamInfer", oip.ModelStreamInferResponse)
UNARY_METHODS: tuple[Method[Any], ...] = (
    SERVER_LIVE,
    SERVER_READY,
    MODEL_READY,
    SERVER_METADATA,
    MODEL_METADATA,
    MODEL_INFER,
    REPOSITORY_INDEX,
)


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What a client was told when it was made.

    Attributes:
        address: `host:port`; an IPv6 host stands in brackets. The environment's proxy is not used.
        timeout_s: how long a call may take, its retries counted, unless it says otherwise; at most
            a day.
        retry: how calls are tried again.
        credentials: of TLS; None: in the clear.
        metadata: sent with every call.
        connection: how channels are set up.

    Raises:
        ValueError: one is something else. Whether anyone answers there, the first call tells.
    """

    address: str
    timeout_s: float
    retry: RetryPolicy
    credentials: grpc.ChannelCredentials | None
    metadata: Metadata
    connection: Connection

    def __post_init__(self) -> None:
        checked_address(self.address)
        checked_timeout(self.timeout_s)

    def timeout_of(self, timeout_s: float | None) -> float:
        """The limit of a call that says so or not."""
        return self.timeout_s if timeout_s is None else checked_timeout(timeout_s)

    def metadata_of(self, metadata: Metadata) -> Metadata:
        """What is sent with a call."""
        return (*self.metadata, *metadata)


class Reply(NamedTuple, Generic[Response]):
    """An answer, and what came with it."""

    message: Response
    trailing: Mapping[str, str | bytes]
    attempts: int


def parsed(method: Method[Response], content: bytes, address: str) -> Response:
    """Reads an answer.

    Raises:
        InferenceError: with the code INTERNAL: it is no message of the protocol.
    """
    try:
        return method.response_type.FromString(content)  # type: ignore[attr-defined]
    except DecodeError:
        raise broken_reply(address, f"it is no {method.response_type.__name__}") from None


def broken_reply(address: str, reason: object) -> InferenceError:
    """The error for an answer that is not the protocol."""
    message = f"{address}: the reply breaks the protocol: {reason}"
    return InferenceError(grpc.StatusCode.INTERNAL, message)


def refusal_of(error: Any) -> Refusal:
    """What a gRPC error says, of either of its interfaces.

    Args:
        error: a `grpc.RpcError` that is a `grpc.Call`, or a `grpc.aio.AioRpcError`.
    """
    values = [
        value.decode("ascii", "replace") if isinstance(value, bytes) else value
        for key, value in error.trailing_metadata() or ()
        if key == PUSHBACK_KEY
    ]
    return Refusal(error.code(), error.details() or "", pushback_s(values))


def final_error(address: str, refusal: Refusal, attempts: int) -> InferenceError:
    """The error that ends a call.

    Args:
        address: of the server, which stands before what is not the caller's mistake.
        refusal: of the last attempt.
        attempts: that were made.
    """
    where = f"{address}: " if refusal.code not in BAD_INPUT else ""
    asked = f", asked {attempts} times" if attempts > 1 else ""
    return InferenceError(
        refusal.code,
        f"{where}{_readable(refusal.details)} ({refusal.code.name}{asked})",
        attempts=attempts,
        pushback_s=refusal.pushback_s,
        connection_lost=_is_loss(refusal),
    )


def _readable(details: str) -> str:
    """What gRPC says, in fewer words where it could not connect."""
    unreached = _UNREACHED.fullmatch(details)
    if unreached is None:
        return details
    if _SPEAKS_HTTP_1 in details:
        return "it speaks HTTP/1 and no gRPC; is that the port of REST?"
    return f"cannot connect: {unreached['reason']}"


def closed_error(address: str, attempts: int) -> InferenceError:
    """The error for a call of a client that was closed."""
    message = f"{address}: the client was closed"
    return InferenceError(grpc.StatusCode.CANCELLED, message, attempts=attempts)


def _is_loss(refusal: Refusal) -> bool:
    if refusal.code is not grpc.StatusCode.UNAVAILABLE or refusal.pushback_s is not None:
        return False
    return _LOST.match(refusal.details) is not None
