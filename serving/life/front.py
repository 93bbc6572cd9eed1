"""The servers of a gateway: gRPC, HTTP, and the one for those who run it."""

import asyncio
from typing import NamedTuple

from serving.configuration.schema import ServeConfig
from serving.core.admission import Admission
from serving.core.engine import Engine
from serving.core.model_control import ModelControl
from serving.observability.metrics import Metrics
from serving.protocols.over_grpc.server import GrpcServer
from serving.protocols.over_http.admin import AdminServer
from serving.protocols.over_http.server import HttpServer


class Addresses(NamedTuple):
    """Where a gateway listens, as host:port."""

    grpc: str
    http: str
    admin: str

    def __str__(self) -> str:
        return f"grpc={self.grpc} http={self.http} admin={self.admin}"


class Front:
    """All servers over one engine. They listen before any model is ready, and say so.

    Args:
        config: Of the gateway.
        engine: What answers.
        admission: What takes requests, and at the end no more.
        metrics: For the admin server.
        control: Loads and unloads models for clients; None: they may not.
    """

    def __init__(
        self,
        config: ServeConfig,
        engine: Engine,
        admission: Admission,
        metrics: Metrics,
        control: ModelControl | None,
    ) -> None:
        self._config, self._engine, self._admission = config, engine, admission
        self._grpc = GrpcServer(engine, config.grpc, control)
        self._http = HttpServer(engine, config.http, control)
        self._admin = AdminServer(engine, metrics.page, config.http)
        self._drained = False

    async def listen(self) -> Addresses:
        """Listens at every port.

        Raises:
            StartError: One of them is taken.
        """
        config = self._config
        return Addresses(
            grpc=await self._grpc.listen(config.host, config.grpc_port),
            http=await self._http.listen(config.host, config.http_port),
            admin=await self._admin.listen(config.host, config.admin_port),
        )

    async def drain(self, *, window_s: float, timeout_s: float) -> None:
        """Ends in order, once: not ready, a while of answering all the same, then nothing new.

        Args:
            window_s: For load balancers to turn away; all that comes is answered.
            timeout_s: For what was taken to be answered; what takes longer is cut off.
        """
        if self._drained:
            return
        self._drained = True
        self._engine.drain()
        await asyncio.sleep(window_s)
        await asyncio.gather(self._grpc.stop(timeout_s), self._http.stop(timeout_s))
        self._admission.closed = True

    async def close(self) -> None:
        """Stops listening at once."""
        await self.drain(window_s=0, timeout_s=0)
        await self._admin.stop(0)
