"""The real gRPC server on a free port, in a thread of its own, over models without replicas."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import numpy as np
import uvloop
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from serving.core.channel import Channel
from serving.core.model import ServedModel
from serving.core.model_control import ModelControl
from serving.protocols.over_grpc.options import GrpcOptions
from serving.protocols.over_grpc.server import GrpcServer
from serving.replicas.compute import Compute
from serving.testing.local_engine import LocalEngine
from serving.testing.served_models import ALL

WAIT_S = 60.0  # far more than anything takes

T = TypeVar("T")


def example_images(batch: int = 1) -> np.ndarray:
    """Random images [batch, 8, 8, 1] float32, the same every time."""
    return np.random.default_rng(7).random((batch, 8, 8, 1), dtype=np.float32)


def infer_request(images: np.ndarray | None = None, **fields: Any) -> oip.ModelInferRequest:
    """Asks DIGITS about images, by default about one."""
    images = example_images() if images is None else images
    contents = [images.tobytes()]
    request = oip.ModelInferRequest(model_name="digits", raw_input_contents=contents, **fields)
    request.inputs.add(name="image", datatype="FP32", shape=images.shape)
    return request


def wait_for(condition: Callable[[], object]) -> None:
    """Returns once something is true that another thread makes true."""
    until = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("it did not become true")
        time.sleep(0.001)


@dataclass
class RunningGrpc:
    """A server that runs.

    Attributes:
        address: Where it listens.
        server: The server.
        local: Its engine and what belongs to it.
        loop: In which both run.
    """

    address: str
    server: GrpcServer
    local: LocalEngine
    loop: asyncio.AbstractEventLoop

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs something in the server's loop, and waits for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WAIT_S)

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Begins something in the server's loop, and does not wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def call(self, function: Callable[[], T]) -> T:
        """Calls something in the server's loop, and waits for it."""

        async def run() -> T:
            return function()

        return self.run(run())

    def accepts_connections(self) -> bool:
        """Whether anybody listens at the address."""
        host, port = self.address.split(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    @contextmanager
    def stub(self) -> Iterator[oip_grpc.GRPCInferenceServiceStub]:
        """A client with a connection of its own."""
        with self.channel() as channel:
            yield oip_grpc.GRPCInferenceServiceStub(channel)

    def channel(self) -> grpc.Channel:
        """A connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.insecure_channel(self.address, options)


@contextmanager
def running_grpc(
    models: Iterable[tuple[ServedModel, Compute | Channel]] = ALL,
    *,
    options: GrpcOptions | None = None,
    control: ModelControl | None = None,
    max_requests: int = 1000,
    max_bytes: int = 2**30,
) -> Iterator[RunningGrpc]:
    """Serves models while the context is open.

    Args:
        models: Each with what it computes, or with a channel to its replica.
        options: Of the server.
        control: Loads and unloads models for clients.
        max_requests: At once.
        max_bytes: Of all requests at once.
    """
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> RunningGrpc:
        local = LocalEngine(models, max_requests=max_requests, max_bytes=max_bytes)
        server = GrpcServer(local.engine, options or GrpcOptions(), control)
        address = await server.listen("127.0.0.1", 0)
        return RunningGrpc(address, server, local, loop)

    running = asyncio.run_coroutine_threadsafe(start(), loop).result(WAIT_S)
    try:
        yield running
    finally:
        running.run(running.server.stop(0))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()
