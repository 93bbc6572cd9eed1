"""What the head of a request says: who asks, under which id, and how long they wait."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from serving.core.errors import invalid, quote
from serving.core.request import Call, Protocol
from serving.protocols.parameters import NO_REQUEST_PARAMETERS, RequestParameters
from serving.protocols.request_ids import HEADER, request_id

# Milliseconds that the client waits for the answer, from when its request has come.
TIMEOUT = "x-request-timeout-ms"
_MAX_MS = 10**15 - 1


@dataclass(slots=True)
class Exchange:
    """One request, of which the head has come.

    Attributes:
        http: the request.
        names: what stands in the places of the route's path.
        request_id: of the caller, or made here.
        arrived: when, of `time.monotonic`.
    """

    http: web.BaseRequest
    names: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    arrived: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.request_id = request_id(self.http.headers.get(HEADER))

    def deadline(self, longest_s: float) -> float:
        """When the caller no longer waits, of `time.monotonic`.

        Raises:
            ServingError: INVALID.
        """
        text = self.http.headers.get(TIMEOUT)
        if text is None:
            return self.arrived + longest_s
        whole = text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_MS))
        timeout_ms = int(text) if whole else 0
        if not timeout_ms:
            raise invalid(
                f"{TIMEOUT} is {quote(text)}; expected whole milliseconds from 1 to {_MAX_MS}"
            )
        return self.arrived + min(timeout_ms / 1e3, longest_s)

    def call(
        self,
        protocol: Protocol,
        model: str,
        version: str,
        *,
        size_bytes: int,
        deadline: float,
        parameters: RequestParameters = NO_REQUEST_PARAMETERS,
    ) -> Call:
        """The request as the engine knows it."""
        if parameters.timeout_s is not None:
            deadline = min(deadline, self.arrived + parameters.timeout_s)
        return Call(
            protocol=protocol,
            model=model,
            version=version,
            request_id=self.request_id,
            client=self.http.remote or "",
            size_bytes=size_bytes,
            deadline=deadline,
            priority=parameters.priority,
        )
