"""grpc.health.v1 for load balancers and probes, with streams that end when the server does.

It tells the truth of the engine: of the server as a whole (""), of the service, and of every model
by its name. The servicer of grpcio-health-checking keeps a Watch open until its client goes, and a
server waits for open calls: one idle watcher would hold up every shutdown.

Reference: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import asyncio
from collections.abc import Awaitable, Callable

from grpc_health.v1 import health_pb2

from serving.core.engine import Engine
from serving.core.errors import Kind, ServingError, quote
from serving.protocols.over_grpc.messages import read_message

_Response = health_pb2.HealthCheckResponse


class Health:
    """The health of a server and its models.

    Args:
        engine: What answers.
        service: The full name of the service that has the same health as the server.
    """

    def __init__(self, engine: Engine, service: str) -> None:
        self._engine = engine
        self._of_server = ("", service)
        self._closed = False
        self._changed = asyncio.Event()
        self._unsubscribe = engine.subscribe(self._wake)

    def close(self) -> None:
        """Every Watch, now or later, ends once it has told the present state."""
        if not self._closed:
            self._closed = True
            self._unsubscribe()
            self._wake()

    async def check(self, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        """The status of a name.

        Raises:
            ServingError: NOT_FOUND.
        """
        status = self._status(request.service)
        if status == _Response.SERVICE_UNKNOWN:
            known = ", ".join(map(repr, self._names()))
            raise ServingError(
                Kind.NOT_FOUND, f"unknown service {quote(request.service)}; known here: {known}"
            )
        return _Response(status=status)

    async def list_all(self, _: health_pb2.HealthListRequest) -> health_pb2.HealthListResponse:
        """The status of every name."""
        statuses = {name: _Response(status=self._status(name)) for name in self._names()}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def watch(self, data: bytes, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Tells the status of a name now and whenever it changes; SERVICE_UNKNOWN of another name.

        Args:
            data: A HealthCheckRequest.
            send: Sends a HealthCheckResponse.

        Raises:
            ServingError: INVALID: the request is no HealthCheckRequest.
        """
        service = read_message(health_pb2.HealthCheckRequest, data).service
        told = None
        while True:
            changed, closed = self._changed, self._closed
            status = self._status(service)
            if status != told:
                await send(_Response(status=status).SerializeToString())
                told = status
            if closed:
                return
            await changed.wait()

    def _wake(self) -> None:
        # Whoever waits has the old event; whoever looks from now on sees the new state.
        self._changed.set()
        self._changed = asyncio.Event()

    def _names(self) -> list[str]:
        models = [state.model.name for state in self._engine.models()]
        return list(dict.fromkeys([*self._of_server, *models]))

    def _status(self, name: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        try:
            if name in self._of_server:
                reason = self._engine.server_why_not_ready()
            else:
                reason = self._engine.why_not_ready(name)
        except ServingError:
            return _Response.SERVICE_UNKNOWN
        return _Response.SERVING if reason is None else _Response.NOT_SERVING
