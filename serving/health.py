"""grpc.health.v1 for load balancers and probes, with streams that end when the server does.

The servicer of grpcio-health-checking keeps a Watch open until its client goes, and a server waits
for open calls: one idle watcher would hold up every shutdown for the whole grace period.

Reference: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

# ruff: noqa: N802 - the protocol names the methods

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_Response = health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):
    """One status for several names, NOT_SERVING at first.

    Args:
        names: of the services; "" stands for the server as a whole.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._status = _Response.NOT_SERVING
        self._closed = False
        self._changed = asyncio.Event()

    def open(self) -> None:
        """Reports SERVING, unless `close` came first."""
        if not self._closed:
            self._set(_Response.SERVING)

    def close(self) -> None:
        """Reports NOT_SERVING for good; every Watch, now or later, ends once it has said so."""
        self._closed = True
        self._set(_Response.NOT_SERVING)

    def _set(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        self._status = status
        # Whoever waits has the old event; whoever looks from now on sees the new status.
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """The status of a name, or NOT_FOUND."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return _Response(status=self._status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status of a name now and whenever it changes; SERVICE_UNKNOWN for another name."""
        told = None
        while True:
            changed, closed = self._changed, self._closed
            known = request.service in self._names
            status = self._status if known else _Response.SERVICE_UNKNOWN
            if status != told:
                yield _Response(status=status)
                told = status
            if closed:
                return
            await changed.wait()
