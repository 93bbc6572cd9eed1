"""ModelStreamInfer: any number of requests in one call.

Each request is answered once, in the order in which the requests came, as Triton answers those
for models like ours (not "decoupled" ones). They are computed at the same time; one that failed
says why in its answer, and the stream goes on. What is no message at all ends the stream.

Reference: https://github.com/triton-inference-server/server, src/grpc/stream_infer_handler.cc.
"""

import asyncio

import grpc

from serving.core.engine import Engine
from serving.core.errors import ServingError
from serving.core.incidents import incident
from serving.core.request import Call, Protocol
from serving.protocols.over_grpc.answer_form import stream_error
from serving.protocols.over_grpc.calls import Calls
from serving.protocols.over_grpc.infer_request import InferRequest
from serving.protocols.over_grpc.messages import Received, read_infer_request
from serving.protocols.over_grpc.model_infer import (
    client_of,
    given_request_id,
    unread_call,
    waiting_s,
)
from serving.protocols.over_grpc.refusals import abort, forgetful
from serving.protocols.over_grpc.templates import RepeatedRequest, Templates
from serving.protocols.request_ids import request_id

# Requests of one stream that were read and whose answers were not sent. A client that sends more,
# or does not read, waits: nothing more is read from it.
MAX_IN_FLIGHT = 16

# What waits to be sent: an answer that is being made, or why the stream ends; None: its end.
_Pending = asyncio.Queue["asyncio.Task[bytes] | ServingError | None"]


class Streams:
    """Answers ModelStreamInfer.

    Args:
        engine: What answers.
        calls: All calls of the server.
        templates: The requests that are remembered.
        timeout_s: Longest that one request may take, whatever its caller says.
    """

    def __init__(
        self, engine: Engine, calls: Calls, templates: Templates, timeout_s: float
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._templates = templates
        self._timeout_s = timeout_s

    async def model_stream_infer(self, _: object, context: grpc.aio.ServicerContext) -> None:
        """Answers a call until its caller has sent its last request, or goes away.

        A drain lets it answer what it has read, and ends it with UNAVAILABLE.
        """
        own_id = request_id(given_request_id(context))
        pending: _Pending = asyncio.Queue(MAX_IN_FLIGHT)
        reader: asyncio.Task[None] | None = None
        try:
            self._calls.open_stream(context)
            reader = asyncio.create_task(self._read(context, own_id, pending))
            while await self._send_next(context, pending):
                pass
            self._calls.answering(context)
        except ServingError as error:
            await abort(context, error, own_id)
        finally:
            if reader is not None:
                reader.cancel()
            while not pending.empty():
                unsent = pending.get_nowait()
                if isinstance(unsent, asyncio.Task):
                    unsent.cancel()

    async def _send_next(self, context: grpc.aio.ServicerContext, pending: _Pending) -> bool:
        """Sends the next answer; False: there is none any more.

        A function of its own, so that a stream that rests keeps no answer in memory.
        """
        answer = await pending.get()
        if isinstance(answer, ServingError):
            raise answer
        if answer is not None:
            await self._calls.send(context, await answer)
        return answer is not None

    async def _read(
        self, context: grpc.aio.ServicerContext, own_id: str, pending: _Pending
    ) -> None:
        """Begins to answer each request that comes."""
        number = 0
        try:
            while (data := await self._calls.next_request(context)) is not None:
                number += 1
                of_request = f"{own_id}.{number}"
                request = self._templates.find(data) or read_infer_request(data)
                answer = asyncio.create_task(self._answer(data, request, of_request, context))
                del data, request  # a stream that rests keeps no request in memory
                try:
                    await pending.put(answer)
                except asyncio.CancelledError:
                    answer.cancel()
                    raise
                del answer
            await pending.put(None)
        except ServingError as error:
            self._engine.refuse(unread_call(Protocol.GRPC_STREAM, own_id, context), error)
            await pending.put(error)
        except grpc.aio.BaseError:  # the call is over
            await pending.put(None)

    async def _answer(
        self,
        data: bytes,
        read: RepeatedRequest | Received,
        own_id: str,
        context: grpc.aio.ServicerContext,
    ) -> bytes:
        """The bytes of a ModelStreamInferResponse. It raises nothing."""
        call: Call | None = None
        message_id = ""
        try:
            request = read if isinstance(read, RepeatedRequest) else InferRequest(read)
            message_id = request.id
            waits_s = waiting_s(context, self._timeout_s)
            call = request.call(Protocol.GRPC_STREAM, own_id, client_of(context), waits_s)
            answer = await self._engine.infer(call, request.inputs)
            return self._templates.form_of(data, request).stream_reply(message_id, answer)
        except ServingError as error:
            if call is None:
                self._engine.refuse(unread_call(Protocol.GRPC_STREAM, own_id, context), error)
            return stream_error(message_id, forgetful(error))
        except Exception as fault:
            return stream_error(message_id, incident(fault))
