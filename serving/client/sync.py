"""A client of any server of the Open Inference Protocol, for threads.

    with InferenceClient("127.0.0.1:8001") as client:
        result = client.infer("digits", {"image": images})
        result["logits"], result.version

aio.py is the same for asyncio.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from serving.client.sources import Source


class _Channel:
    """A channel and its methods, which are made once. Messages are bytes."""

    def __init__(self, config: ClientConfig) -> None:
        options = config.connection.channel_options()
        if config.credentials is None:
            self.grpc = grpc.insecure_channel(config.address, options)
        else:
            self.grpc = grpc.secure_channel(config.address, config.credentials, options)
        self.methods = {
            method.path: self.grpc.unary_unary(method.path) for method in calls.UNARY_METHODS
        }
        self.stream = self.grpc.stream_stream(calls.MODEL_STREAM_INFER.path)


class InferenceClient:
    """A client for threads. Thread-safe; close it, or use it as a context manager.

    Args:
        address: `host:port`; an IPv6 host stands in brackets. The environment's proxy is not used.
        timeout_s: how long each call may take, its retries counted, unless it says otherwise.
        retry: how calls are tried again that the server did not process.
        credentials: of TLS; None: in the clear.
        metadata: sent with every call.
        connection: limits and keepalive of the connections.
        now: seconds of a clock that never goes back.
        sleep: waits for so many seconds; by default until the client is closed, if that is sooner.
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
        sleep: Callable[[float], Any] | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._config = ClientConfig(address, timeout_s, retry, credentials, metadata, connection)
        self._budget = RetryBudget(retry)
        self._pool = ChannelPool(
            lambda: _Channel(self._config), connection.streams_per_channel, connection.max_channels
        )
        self._closed = threading.Event()
        self._now = now
        self._sleep = sleep or self._closed.wait
        self._draw = draw

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections. Calls that wait end with the code CANCELLED."""
        self._closed.set()
        for channel in self._pool.close():
            channel.grpc.close()

    def live(self, *, timeout_s: float | None = None) -> bool:
        """True if the server answers."""
        return self._call(calls.SERVER_LIVE, oip.ServerLiveRequest(), timeout_s).live

    def ready(
        self, model: str | None = None, version: str = "", *, timeout_s: float | None = None
    ) -> bool:
        """True if the server, or a model of it, takes requests."""
        if model is None:
            return self._call(calls.SERVER_READY, oip.ServerReadyRequest(), timeout_s).ready
        request = oip.ModelReadyRequest(name=model, version=version)
        return self._call(calls.MODEL_READY, request, timeout_s).ready

    def server_metadata(self, *, timeout_s: float | None = None) -> oip.ServerMetadataResponse:
        """Name, version and extensions of the server."""
        return self._call(calls.SERVER_METADATA, oip.ServerMetadataRequest(), timeout_s)

    def model_metadata(
        self, model: str, version: str = "", *, timeout_s: float | None = None
    ) -> oip.ModelMetadataResponse:
        """Signature and versions of a model."""
        request = oip.ModelMetadataRequest(name=model, version=version)
        return self._call(calls.MODEL_METADATA, request, timeout_s)

    def repository_index(
        self, *, ready: bool = False, timeout_s: float | None = None
    ) -> list[oip.RepositoryIndexResponse.ModelIndex]:
        """The models that the server knows, or only those that are ready, and their states."""
        request = oip.RepositoryIndexRequest(ready=ready)
        return list(self._call(calls.REPOSITORY_INDEX, request, timeout_s).models)

    def infer(
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
        """Runs a model.

        Args:
            model: its name.
            inputs: arrays by input name; the first dimension is the batch. BYTES are object arrays
                of bytes or text, BF16 is `ml_dtypes.bfloat16`.
            version: its version; empty lets the server choose.
            outputs: names of the outputs wanted, or by name what parameters each has; all if empty.
            request_id: comes back with the answer.
            priority: 1 is the most urgent; 0, the usual one, is not sent.
            parameters: of the request, by name.
            timeout_s: how long it may take, retries counted; by default as the client was told.
            metadata: sent beside that of the client.

        Raises:
            InferenceError: the server refused, failed, did not answer in time, or answered
                something that is not the protocol (with the code INTERNAL).
            TypeError: an array has a dtype that the protocol does not know.
            ValueError: the timeout is not positive, or longer than a day.
        """
        request = encode_request(
            model,
            inputs,
            version=version,
            outputs=outputs,
            request_id=request_id,
            priority=priority,
            parameters=parameters,
        )
        return self.infer_encoded(request, outputs=outputs, timeout_s=timeout_s, metadata=metadata)

    def infer_encoded(
        self,
        request: bytes,
        *,
        outputs: WantedOutputs = (),
        timeout_s: float | None = None,
        metadata: Metadata = (),
    ) -> InferResult:
        """Runs a model on what `encode_request` returned, which may be sent many times."""
        reply = self._ask(calls.MODEL_INFER, request, timeout_s, metadata)
        return result_of(reply, outputs, self._config.address)

    def stream(
        self,
        requests: Iterable[bytes],
        *,
        timeout_s: float | None = None,
        metadata: Metadata = (),
    ) -> Iterator[InferResult | InferenceError]:
        """Sends many requests in one call, and yields an answer to each as it comes.

        An answer names its request by its `id`, or `request_id` where it is an error. A stream is
        not tried again: nobody knows which of its requests were processed. The end of the iterator
        ends the stream, whether all answers were read or not. An exception of `requests` is raised
        after the answers to those before it.

        Args:
            requests: what `encode_request` returns; they are taken in a thread of gRPC's.
            timeout_s: how long the whole stream may take; by default as the client was told.
            metadata: sent beside that of the client.

        Raises:
            InferenceError: the stream ended before all was answered; UNIMPLEMENTED: the server has
                no streams.
        """
        config = self._config
        sent_metadata = config.metadata_of(metadata)
        source = Source(requests)
        attempts = Attempts(config, self._budget, timeout_s, self._now, self._draw)
        try:
            with self._pool.channel() as channel:
                call = channel.stream(
                    iter(source), timeout=attempts.remaining_s(), metadata=sent_metadata
                )
                try:
                    for content in call:
                        yield stream_result_of(content, config.address)
                finally:
                    call.cancel()
        except (grpc.RpcError, PoolClosedError) as error:
            closed = self._closed.is_set()
            raise (attempts.closed() if closed else attempts.failed(error)) from error
        if source.error is not None:
            raise source.error

    def _call(self, method: Method[Response], request: Any, timeout_s: float | None) -> Response:
        return self._ask(method, request.SerializeToString(), timeout_s, ()).message

    def _ask(
        self, method: Method[Response], request: bytes, timeout_s: float | None, metadata: Metadata
    ) -> Reply[Response]:
        attempts = Attempts(self._config, self._budget, timeout_s, self._now, self._draw)
        sent_metadata = self._config.metadata_of(metadata)
        while True:
            try:
                with self._pool.channel() as channel:
                    content, call = channel.methods[method.path].with_call(
                        request, timeout=attempts.remaining_s(), metadata=sent_metadata
                    )
                return attempts.answered(method, content, call.trailing_metadata())
            except (grpc.RpcError, PoolClosedError, ValueError) as error:
                # gRPC raises the first in calls that run when a channel is closed, and the last in
                # those that begin after that.
                if self._closed.is_set():
                    raise attempts.closed() from error
                if not isinstance(error, grpc.RpcError):
                    raise
                self._sleep(attempts.wait_after(error))
