"""ModelInfer: the method that nearly every call is, so nothing here is done that need not be."""

import asyncio
import time

import grpc

from serving.core.engine import Engine
from serving.core.errors import ServingError
from serving.core.incidents import incident
from serving.core.request import Call, Protocol
from serving.protocols.over_grpc.calls import Calls
from serving.protocols.over_grpc.refusals import abort, forgetful
from serving.protocols.over_grpc.templates import Templates
from serving.protocols.request_ids import HEADER, request_id


class Inference:
    """Answers ModelInfer.

    Args:
        engine: What answers.
        calls: All calls of the server.
        templates: The requests that are remembered.
        timeout_s: Longest that a request may take, whatever its caller says.
    """

    def __init__(
        self, engine: Engine, calls: Calls, templates: Templates, timeout_s: float
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._timeout_s = timeout_s
        self._templates = templates

    async def model_infer(self, _: object, context: grpc.aio.ServicerContext) -> bytes:
        """Answers a call with the bytes of a ModelInferResponse, or ends it with a status.

        A caller that goes away cancels this coroutine, and so the work.
        """
        given = given_request_id(context)
        own_id = request_id(given)
        data = request = call = None
        try:
            data = await self._calls.receive(context)
            request = self._templates.read(data)
            waits_s = waiting_s(context, self._timeout_s)
            call = request.call(Protocol.GRPC, own_id, client_of(context), waits_s)
            answer = await self._engine.infer(call, request.inputs)
            if given is not None:
                context.set_trailing_metadata(((HEADER, own_id),))
            reply = self._templates.form_of(data, request).reply(request.id, answer)
            self._calls.answering(context)
            return reply
        except ServingError as error:
            refusal = error
            if call is None:
                self._engine.refuse(unread_call(Protocol.GRPC, own_id, context), error)
        except (grpc.aio.BaseError, asyncio.CancelledError):
            raise
        except Exception as fault:
            refusal = incident(fault)
        # The call keeps how it was aborted, and that this frame: without these the request would
        # stay in memory until the next collection of cycles.
        del data, request
        return await abort(context, forgetful(refusal), own_id)


def given_request_id(context: grpc.aio.ServicerContext) -> str | None:
    """The id that the caller gave to its call, well formed or not; None: it gave none."""
    for key, value in context.invocation_metadata() or ():
        if key == HEADER:
            return value if isinstance(value, str) else ""
    return None


def client_of(context: grpc.aio.ServicerContext) -> str:
    """The address of the peer without its port, in the form of gRPC but for the family.

    "ipv4:127.0.0.1:50051" is 127.0.0.1, and "ipv6:%5B::1%5D:50051" is %5B::1%5D.
    """
    peer = context.peer()
    return peer[5 : peer.rfind(":")] if peer.startswith("ipv") else peer


def waiting_s(context: grpc.aio.ServicerContext, longest_s: float) -> float:
    """How long the caller waits by its deadline, and at most `longest_s`."""
    remaining_s = context.time_remaining()
    return longest_s if remaining_s is None or remaining_s > longest_s else remaining_s


def unread_call(protocol: Protocol, request_id: str, context: grpc.aio.ServicerContext) -> Call:
    """What is known of a request that could not be read."""
    return Call(protocol, "", "", request_id, client_of(context), 0, time.monotonic())
