"""The servers of a gateway: gRPC, HTTP, and the one for those who run it."""

import asyncio
from contextlib import ExitStack, closing
from typing import NamedTuple

from serving.configuration.schema import ServeConfig
from serving.core.admission import Admission
from serving.core.engine import Engine
from serving.core.model_control import ModelControl
from serving.observability.metrics import Metrics
from serving.protocols.over_grpc.server import GrpcServer
from serving.protocols.over_http.admin import AdminServer
from serving.protocols.over_http.server import HttpServer
from serving.protocols.ports import HeldPort


class Addresses(NamedTuple):
    """Where a gateway listens, as host:port."""

    grpc: str
    http: str
    admin: str

    def __str__(self) -> str:
        return f"grpc={self.grpc} http={self.http} admin={self.admin}"


class Front:
    """All servers over one engine.

    The one for those who run the gateway listens from `hold` on, and says that nothing is ready;
    clients can connect from `open` on. A balancer that does not ask first so finds nobody, and
    asks another gateway, instead of one that knows no model yet.

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
        self._held = ExitStack()
        self._numbers = (0, 0)
        self._drained = False

    async def hold(self) -> Addresses:
        """Takes every port.

        Raises:
            StartError: One of them is taken.
        """
        config = self._config
        grpc = self._held.enter_context(closing(HeldPort(config.host, config.grpc_port)))
        http = self._held.enter_context(closing(HeldPort(config.host, config.http_port)))
        self._numbers = (grpc.number, http.number)
        admin = await self._admin.listen(config.host, config.admin_port)
        return Addresses(grpc=str(grpc), http=str(http), admin=admin)

    async def open(self) -> None:
        """Lets clients connect.

        Raises:
            StartError: Somebody else was faster to listen on a port.
        """
        host, (grpc, http) = self._config.host, self._numbers
        with self._held:
            await self._grpc.listen(host, grpc)
            await self._http.listen(host, http)

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
        self._held.close()
        await self.drain(window_s=0, timeout_s=0)
        await self._admin.stop(0)
