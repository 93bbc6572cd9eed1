"""Asks a server through gRPC with as little work of the client's own as grpc.aio allows.

Requests are bytes that were made before, and answers stay bytes.
"""

from collections.abc import Sequence

import grpc

_METHOD = "/inference.GRPCInferenceService/ModelInfer"

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


class GrpcCaller:
    """One connection, which all calls share.

    Args:
        port: Of the server, on loopback.
        metadata: That goes with each call.
    """

    def __init__(self, port: int, metadata: Sequence[tuple[str, str]] = ()) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", _OPTIONS)
        self._infer = self._channel.unary_unary(_METHOD)
        self._metadata = tuple(metadata) or None

    async def ask(self, request: bytes) -> bytes:
        """Returns the answer to a ModelInferRequest, a ModelInferResponse, both as they travel.

        Raises:
            grpc.aio.AioRpcError: The server refused, failed or is not there.
        """
        answer: bytes = await self._infer(request, metadata=self._metadata)
        return answer

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()
