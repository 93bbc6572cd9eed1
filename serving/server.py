"""The gRPC server around the servicer: port, limits, health and shutdown.

Health is reported twice, to protocol clients by the servicer and to load balancers and probes by
grpc.health.v1, for the server as a whole (""), for the service and for the model by name.
"""

import asyncio
from contextlib import suppress

import grpc
from grpc_health.v1 import health_pb2_grpc
from inference import grpc_service_pb2, grpc_service_pb2_grpc

from serving.calls import RunningCalls
from serving.errors import StartError
from serving.health import HealthService
from serving.service import InferenceService, Predict

SERVICE_NAME = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

# gRPC's clients in Go and Java ping every 10 s at most; half of that leaves room for a network that
# delays one ping and not the next. Under gRPC's own limit of 5 minutes they lose their calls.
MIN_PING_INTERVAL_MS = 5_000

# For clients to read the last answers and to close their connections, as all but the lost ones do.
_LINGER_S = 1.0

_NEVER_S = 1e9


class GatewayServer:
    """A gRPC server that starts unready, becomes ready, and drains.

    Args:
        service: answers the calls.
        max_message_bytes: largest message accepted; a larger one gets RESOURCE_EXHAUSTED.
    """

    def __init__(self, service: InferenceService, max_message_bytes: int) -> None:
        self._service = service
        self._health = HealthService(["", SERVICE_NAME, service.model_name])
        self._calls = RunningCalls()
        self._server = grpc.aio.server(
            interceptors=[self._calls],
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                # By default a second server could listen on the same port and take half the calls.
                ("grpc.so_reuseport", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
                # Clients behind a NAT ping to keep idle connections; otherwise once in 2 hours.
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self, host: str, port: int) -> str:
        """Listens, not yet ready, and returns the address with the port that was bound.

        Raises:
            StartError: the address is taken or is not one of this machine.
        """
        address = f"[{host}]" if ":" in host else host
        try:
            bound_port = self._server.add_insecure_port(f"{address}:{port}")
        except RuntimeError as error:
            raise StartError(
                f"cannot listen on {address}:{port}: the port is in use or the host is not of "
                "this machine; choose another --port, or 0 for any free one"
            ) from error
        await self._server.start()
        return f"{address}:{bound_port}"

    async def open(self, predict: Predict) -> None:
        """Answers requests with `predict` and reports ready."""
        self._service.open(predict)
        self._health.open()

    async def drain(self, grace_s: float) -> None:
        """Reports unready first, so that callers turn away, then lets running requests finish.

        Args:
            grace_s: requests that take longer are cut off.
        """
        self._health.close()
        self._service.close()
        # Takes no more calls, and says so. It would also wait for whoever is connected and does not
        # answer; and its own limit must not pass while another `stop` runs.
        stopping = asyncio.create_task(self._server.stop(_NEVER_S))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._calls.none(), grace_s)
        await asyncio.wait([stopping], timeout=min(grace_s, _LINGER_S))
        stopping.cancel()
        await asyncio.wait([stopping])
        await self._server.stop(None)
