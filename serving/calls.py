"""Which calls are being answered: what a server that drains waits for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc


class RunningCalls(grpc.aio.ServerInterceptor):
    """Counts calls from when their request is there until their answer is sent, or they are lost.

    gRPC's own count has those whose request never comes, too, and every connection.
    """

    def __init__(self) -> None:
        self._running = 0
        self._none = asyncio.Event()
        self._none.set()

    async def none(self) -> None:
        """Returns once no call is running."""
        await self._none.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Has the call counted."""
        handler = await continuation(handler_call_details)
        if handler is None:  # there is no such method
            return handler

        async def unary(request: Any, context: grpc.aio.ServicerContext) -> Any:
            self._begin(context)
            return await handler.unary_unary(request, context)

        async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            self._begin(context)
            async for response in handler.unary_stream(request, context):
                yield response

        return handler._replace(
            unary_unary=handler.unary_unary and unary, unary_stream=handler.unary_stream and stream
        )

    def _begin(self, context: grpc.aio.ServicerContext) -> None:
        self._running += 1
        self._none.clear()
        context.add_done_callback(self._end)

    def _end(self, _: grpc.aio.ServicerContext) -> None:
        self._running -= 1
        if not self._running:
            self._none.set()
