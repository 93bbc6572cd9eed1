"""The gRPC server: its port, its limits, and how it ends.

Health is reported twice, to protocol clients by the protocol and to load balancers and probes by
grpc.health.v1, and both are the truth of the engine.
"""

import asyncio
import logging
from collections.abc import Set
from contextlib import suppress

import grpc

from serving.core.engine import Engine
from serving.core.model_control import ModelControl
from serving.protocols.over_grpc.calls import Calls
from serving.protocols.over_grpc.health import Health
from serving.protocols.over_grpc.inspection import Inspection
from serving.protocols.over_grpc.methods import (
    SERVICE,
    MethodTable,
    health_handlers,
    inference_handlers,
    reflection_handlers,
)
from serving.protocols.over_grpc.model_infer import Inference
from serving.protocols.over_grpc.options import GrpcOptions, channel_options
from serving.protocols.over_grpc.sockets import (
    Address,
    close_listeners,
    hang_up,
    listening_on,
    say_no_more,
)
from serving.protocols.over_grpc.streams import Streams
from serving.protocols.over_grpc.templates import Templates
from serving.protocols.ports import authority, not_had

# For clients to read the last answers and to close their connections, as all but the lost ones do.
_LINGER_S = 1.0

_NEVER_S = 1e9

_GRPC_LOG = logging.getLogger("grpc._cython.cygrpc")


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of gRPC's log is to be written: not that a client went before its answer."""
    return not record.getMessage().startswith("ExecuteBatchError raised in core")


class GrpcServer:
    """A gRPC server over an engine. It answers from `listen` on; the engine knows what is ready.

    Args:
        engine: What answers.
        options: Its limits.
        control: Loads and unloads models for clients; None: they may not.
    """

    def __init__(
        self, engine: Engine, options: GrpcOptions, control: ModelControl | None = None
    ) -> None:
        self._calls = Calls(
            options.max_slow_calls, options.timeout_s, options.read_s, self._hang_up
        )
        self._addresses: Set[Address] = frozenset()
        self._health = Health(engine, SERVICE)
        templates = Templates()
        inference = Inference(engine, self._calls, templates, options.timeout_s)
        streams = Streams(engine, self._calls, templates, options.timeout_s)
        inspection = Inspection(engine, control)
        handlers = {
            **inference_handlers(inference, streams, inspection, self._calls),
            **health_handlers(self._health, self._calls),
            **(reflection_handlers(self._calls) if options.reflection else {}),
        }
        self._server = grpc.aio.server(options=channel_options(options))
        self._server.add_generic_rpc_handlers((MethodTable(handlers),))

    async def listen(self, host: str, port: int) -> str:
        """Listens, and returns the address with the port that was bound.

        Raises:
            StartError: The address is taken or is not one of this machine.
        """
        address = authority(host)
        try:
            bound_port = self._server.add_insecure_port(f"{address}:{port}")
        except RuntimeError as error:
            raise not_had(host, port) from error
        _GRPC_LOG.addFilter(_is_news)
        await self._server.start()
        self._addresses = listening_on(bound_port)
        self._calls.start()
        return f"{address}:{bound_port}"

    async def none_running(self) -> None:
        """Returns once no call is running."""
        await self._calls.none()

    async def stop(self, grace_s: float) -> None:
        """Takes no more calls, and lets running ones finish.

        Whoever stops a server has its engine report unready first, and goes on serving for a while,
        so that load balancers turn away: what still comes now is refused.

        Args:
            grace_s: Calls that take longer are cut off.
        """
        self._health.close()
        close_listeners(self._addresses)
        self._calls.refuse()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._calls.none(), grace_s)
        await self._calls.quiet()
        # Only now: to calls that come after its `stop` gRPC would say that they were cancelled.
        say_no_more(self._addresses)
        # It would also wait for whoever is connected and does not answer; and its own limit must
        # not pass while another `stop` runs.
        stopping = asyncio.create_task(self._server.stop(_NEVER_S))
        await asyncio.wait([stopping], timeout=min(grace_s, _LINGER_S))
        stopping.cancel()
        await asyncio.wait([stopping])
        await self._server.stop(None)
        self._calls.stop()

    def _hang_up(self, peers: Set[str]) -> None:
        hang_up(self._addresses, peers)
