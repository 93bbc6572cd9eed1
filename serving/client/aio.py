"""A client of any server of the Open Inference Protocol, for asyncio.

    async with AsyncInferenceClient("127.0.0.1:8001") as client:
        result = await client.infer("digits", {"image": images})
        result["logits"], result.version

sync.py is the same for threads.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from inference import grpc_service_pb2 as oip

from serving.client import calls
from serving.client.attempts import Attempts
from serving.client.calls import ClientConfig, Metadata, Method, Reply, Response
from serving.client.connection import Connection
from serving.client.encoding import ParameterValue, WantedOutputs, encode_request
from serving.client.errors import InferenceError
from serving.client.pool import ChannelPool, PoolClosedError
from serving.client.results import InferResult, result_of, stream_result_of
from serving.client.retries import RetryBudget, RetryPolicy
from serving.client.sources import AsyncSource

_FAILED_WRITE = "Internal error from Core"
_PROBE_TIMEOUT_S = 5.0


class _Channel:
    """A channel and its methods, which are made once. Messages are bytes."""

    def __init__(self, config: ClientConfig) -> None:
        options = config.connection.channel_options()
        if config.credentials is None:
            self.grpc = grpc.aio.insecure_channel(config.address, options)
        else:
            self.grpc = grpc.aio.secure_channel(config.address, config.credentials, options)
        self.methods = {
            method.path: self.grpc.unary_unary(method.path) for method in calls.UNARY_METHODS
        }
        self.stream = self.grpc.stream_stream(calls.MODEL_STREAM_INFER.path)


class AsyncInferenceClient:
    """A client for one event loop: that in which its first call is made.

    Close it, or use it as an asynchronous context manager. A call whose task is cancelled is
    cancelled on the server too.

    Args:
        address: `host:port`; an IPv6 host stands in brackets. The environment's proxy is not used.
        timeout_s: how long each call may take, its retries counted, unless it says otherwise.
        retry: how calls are tried again that the server did not process.
        credentials: of TLS; None: in the clear.
        metadata: sent with every call.
        connection: limits and keepalive of the connections.
        now: seconds of a clock that never goes back.
        sleep: waits for so many seconds.
        draw: uniform in [0, 1).

    Raises:
        ValueError: one is something else. Whether anyone answers there, the first call tells.
    """

    def __init__(
        self,
        address: str,
        timeout_s: float = 30.0,
        *,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  it is frozen
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Metadata = (),
        connection: Connection = Connection(),  # noqa: B008  it is frozen
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._config = ClientConfig(address, timeout_s, retry, credentials, metadata, connection)
        self._budget = RetryBudget(retry)
        self._pool = ChannelPool(
            lambda: _Channel(self._config), connection.streams_per_channel, connection.max_channels
        )
        self._closed = False
        self._now = now
        self._sleep = sleep
        self._draw = draw

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections. Calls that wait end with the code CANCELLED."""
        self._closed = True
        for channel in self._pool.close():
            await channel.grpc.close()

    async def live(self, *, timeout_s: float | None = None) -> bool:
        """True if the server answers."""
        return (await self._call(calls.SERVER_LIVE, oip.ServerLiveRequest(), timeout_s)).live

    async def ready(
        self, model: str | None = None, version: str = "", *, timeout_s: float | None = None
    ) -> bool:
        """True if the server, or a model of it, takes requests."""
        if model is None:
            return (await self._call(calls.SERVER_READY, oip.ServerReadyRequest(), timeout_s)).ready
        request = oip.ModelReadyRequest(name=model, version=version)
        return (await self._call(calls.MODEL_READY, request, timeout_s)).ready

    async def server_metadata(
        self, *, timeout_s: float | None = None
    ) -> oip.ServerMetadataResponse:
        """Name, version and extensions of the server."""
        return await self._call(calls.SERVER_METADATA, oip.ServerMetadataRequest(), timeout_s)

    async def model_metadata(
        self, model: str, version: str = "", *, timeout_s: float | None = None
    ) -> oip.ModelMetadataResponse:
        """Signature and versions of a model."""
        request = oip.ModelMetadataRequest(name=model, version=version)
        return await self._call(calls.MODEL_METADATA, request, timeout_s)

    async def repository_index(
        self, *, ready: bool = False, timeout_s: float | None = None
    ) -> list[oip.RepositoryIndexResponse.ModelIndex]:
        """The models that the server knows, or only those that are ready, and their states."""
        request = oip.RepositoryIndexRequest(ready=ready)
        return list((await self._call(calls.REPOSITORY_INDEX, request, timeout_s)).models)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        *,
        version: str = "",
        outputs: WantedOutputs = (),
        request_id: str = "",
        priority: int = 0,
        parameters: Mapping[str, ParameterValue] | None = None,
        timeout_s: float | None = None,
        metadata: Metadata = (),
    ) -> InferResult:
        """Runs a model; arguments and errors are those of `InferenceClient.infer`."""
        request = encode_request(
            model,
            inputs,
            version=version,
            outputs=outputs,
            request_id=request_id,
            priority=priority,
            parameters=parameters,
        )
        return await self.infer_encoded(
            request, outputs=outputs, timeout_s=timeout_s, metadata=metadata
        )

    async def infer_encoded(
        self,
        request: bytes,
        *,
        outputs: WantedOutputs = (),
        timeout_s: float | None = None,
        metadata: Metadata = (),
    ) -> InferResult:
        """Runs a model on what `encode_request` returned, which may be sent many times."""
        reply = await self._ask(calls.MODEL_INFER, request, timeout_s, metadata)
        return result_of(reply, outputs, self._config.address)

    async def stream(
        self,
        requests: Iterable[bytes] | AsyncIterable[bytes],
        *,
        timeout_s: float | None = None,
        metadata: Metadata = (),
    ) -> AsyncIterator[InferResult | InferenceError]:
        """Sends many requests in one call; all as `InferenceClient.stream` says.

        Leave the iterator by `contextlib.aclosing` if not all answers are read.
        """
        config = self._config
        sent_metadata = config.metadata_of(metadata)
        source = AsyncSource(requests)
        attempts = Attempts(config, self._budget, timeout_s, self._now, self._draw)
        try:
            with self._pool.channel() as channel:
                call = channel.stream(
                    aiter(source), timeout=attempts.remaining_s(), metadata=sent_metadata
                )
                try:
                    async for content in call:
                        yield stream_result_of(content, config.address)
                except grpc.aio.AioRpcError as error:
                    raise attempts.failed(await _reason(error, channel)) from error
                finally:
                    call.cancel()
        except (PoolClosedError, asyncio.CancelledError) as error:
            if not self._is_closed_under_task(error):
                raise
            raise attempts.closed() from error
        if source.error is not None:
            raise source.error

    async def _call(
        self, method: Method[Response], request: Any, timeout_s: float | None
    ) -> Response:
        return (await self._ask(method, request.SerializeToString(), timeout_s, ())).message

    async def _ask(
        self, method: Method[Response], request: bytes, timeout_s: float | None, metadata: Metadata
    ) -> Reply[Response]:
        attempts = Attempts(self._config, self._budget, timeout_s, self._now, self._draw)
        sent_metadata = self._config.metadata_of(metadata)
        while True:
            try:
                with self._pool.channel() as channel:
                    call = channel.methods[method.path](
                        request, timeout=attempts.remaining_s(), metadata=sent_metadata
                    )
                    content = await call
                    trailing = await call.trailing_metadata()
                return attempts.answered(method, content, trailing)
            except grpc.aio.AioRpcError as error:
                await self._sleep(attempts.wait_after(error))
            except (PoolClosedError, asyncio.CancelledError) as error:
                if not self._is_closed_under_task(error):
                    raise
                raise attempts.closed() from error

    def _is_closed_under_task(self, error: BaseException) -> bool:
        """Whether an error means that the client was closed, and not that the task is cancelled.

        gRPC cancels what waits for calls of a channel that is closed.
        """
        task = asyncio.current_task()
        cancelled = isinstance(error, asyncio.CancelledError) and task and task.cancelling()
        return self._closed and not cancelled


async def _reason(error: grpc.aio.AioRpcError, channel: _Channel) -> grpc.aio.AioRpcError:
    """The status with which a server ended a stream.

    Where a request is being written when the status arrives, grpc.aio forgets the status and
    reports the write (https://github.com/grpc/grpc/issues/36066). A stream without requests has
    none to write, and what refuses all streams refuses that too.
    """
    if error.details() != _FAILED_WRITE:
        return error
    try:
        async for _ in channel.stream(aiter(AsyncSource(())), timeout=_PROBE_TIMEOUT_S):
            pass
    except grpc.aio.AioRpcError as found:
        return found
    none = grpc.aio.Metadata()
    lost = "the server ended the stream; gRPC has lost the reason"
    return grpc.aio.AioRpcError(grpc.StatusCode.UNKNOWN, none, none, details=lost)
