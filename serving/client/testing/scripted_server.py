"""A real gRPC server that answers as it is told, and remembers what it was asked."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import grpc
from google.protobuf.message import Message

WAIT_S = 60.0  # far more than anything takes


STREAMING = ("ModelStreamInfer",)


class Refuse(NamedTuple):
    """A step that ends the call with a status, and with what stands in the trailing metadata."""

    code: grpc.StatusCode
    details: str = "not now"
    pushback_ms: Sequence[str] = ()


class Hold(NamedTuple):
    """A step that answers when the server is told to let go."""

    reply: Message


Step: TypeAlias = Message | bytes | Refuse | Hold


@dataclass(frozen=True)
class Received:
    """A call as the server saw it; `remaining_s` is what its deadline left it, if it has one."""

    request: bytes
    remaining_s: float | None
    metadata: dict[str, str | bytes]
    peer: str


class ScriptedServer(grpc.GenericRpcHandler):
    """Each method makes its steps in turn, and then its last one for ever.

    Attributes:
        address: `host:port`.
        received: by method, what was asked.
        held: calls that are waiting in a `Hold`.
    """

    def __init__(self, scripts: Mapping[str, Sequence[Step]]) -> None:
        self.address = ""
        self.received: defaultdict[str, list[Received]] = defaultdict(list)
        self.held = 0
        self.cancelled = 0
        self._scripts = scripts
        self._let_go = asyncio.Event()
        self._loop = asyncio.new_event_loop()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Finds a method's handler, as gRPC asks it to."""
        name = handler_call_details.method.rpartition("/")[2]
        if name not in self._scripts:
            return None
        if name in STREAMING:

            async def stream(
                requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
            ) -> AsyncIterator[bytes]:
                async for request in requests:
                    yield await self._handle(name, request, context)

            return grpc.stream_stream_rpc_method_handler(stream)

        async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return await self._handle(name, request, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    def let_go(self) -> None:
        """Answers what is held, now and later."""
        self._loop.call_soon_threadsafe(self._let_go.set)

    async def _handle(self, name: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        calls = self.received[name]
        step = self._scripts[name][min(len(calls), len(self._scripts[name]) - 1)]
        metadata = dict(context.invocation_metadata() or ())
        calls.append(Received(request, context.time_remaining(), metadata, context.peer()))
        if isinstance(step, Refuse):
            trailing = tuple(("grpc-retry-pushback-ms", value) for value in step.pushback_ms)
            await context.abort(step.code, step.details, trailing)
        if isinstance(step, Hold):
            await self._hold()
            step = step.reply
        assert not isinstance(step, Refuse)
        return step if isinstance(step, bytes) else step.SerializeToString()

    async def _hold(self) -> None:
        self.held += 1
        try:
            await self._let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.held -= 1

    async def _start(
        self, credentials: grpc.ServerCredentials | None, port: int
    ) -> grpc.aio.Server:
        server = grpc.aio.server(handlers=[self])
        address = f"localhost:{port}" if credentials else f"127.0.0.1:{port}"
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        await server.start()
        self.address = f"{address.partition(':')[0]}:{port}"
        return server


@contextmanager
def scripted_server(
    scripts: Mapping[str, Sequence[Step]],
    *,
    credentials: grpc.ServerCredentials | None = None,
    port: int = 0,
) -> Iterator[ScriptedServer]:
    """Runs a server in a thread.

    Args:
        scripts: by the method's name, "ModelInfer" for example; others are not implemented.
        credentials: of TLS.
        port: 0 for any free one.
    """
    scripted = ScriptedServer(scripts)
    loop = scripted._loop
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(WAIT_S)

    server = run(scripted._start(credentials, port))
    try:
        yield scripted
    finally:
        run(server.stop(0))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()
