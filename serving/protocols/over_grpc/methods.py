"""The table of all methods, each of which gets the bytes that came.

gRPC would read messages by itself, and answer bytes that are none with UNKNOWN and a traceback in
the log. And it would wait for a unary call's request in a place where nobody can end that: to gRPC
these are methods with a stream of requests, which on the wire is the same. The generated function
that adds a service registers each method with gRPC's core, which the loop then waits for one by
one: with this table it waits once for all.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION_SERVICE
from grpc_reflection.v1alpha.reflection import aio
from inference import grpc_service_pb2 as oip

from serving.core.errors import ServingError
from serving.core.incidents import incident
from serving.protocols.over_grpc.calls import Calls
from serving.protocols.over_grpc.health import Health
from serving.protocols.over_grpc.inspection import Inspection
from serving.protocols.over_grpc.messages import M, read_message
from serving.protocols.over_grpc.model_infer import Inference
from serving.protocols.over_grpc.refusals import abort, forgetful
from serving.protocols.over_grpc.streams import Streams

SERVICE = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

Handlers = Mapping[str, grpc.RpcMethodHandler]


class MethodTable(grpc.GenericRpcHandler):
    """Finds a method by its path.

    Args:
        handlers: By path, "/package.Service/Method".
    """

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """The method that a call means; None: there is none, and the call is UNIMPLEMENTED."""
        return self._handlers.get(handler_call_details.method)


def inference_handlers(
    inference: Inference, streams: Streams, inspection: Inspection, calls: Calls
) -> Handlers:
    """The methods of the Open Inference Protocol."""
    inspecting = {
        "ServerLive": _unary(oip.ServerLiveRequest, inspection.server_live, calls),
        "ServerReady": _unary(oip.ServerReadyRequest, inspection.server_ready, calls),
        "ModelReady": _unary(oip.ModelReadyRequest, inspection.model_ready, calls),
        "ServerMetadata": _unary(oip.ServerMetadataRequest, inspection.server_metadata, calls),
        "ModelMetadata": _unary(oip.ModelMetadataRequest, inspection.model_metadata, calls),
        "RepositoryIndex": _unary(oip.RepositoryIndexRequest, inspection.repository_index, calls),
        "RepositoryModelLoad": _unary(
            oip.RepositoryModelLoadRequest, inspection.repository_model_load, calls
        ),
        "RepositoryModelUnload": _unary(
            oip.RepositoryModelUnloadRequest, inspection.repository_model_unload, calls
        ),
    }
    inferring = {
        "ModelInfer": grpc.stream_unary_rpc_method_handler(inference.model_infer),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(streams.model_stream_infer),
    }
    return {f"/{SERVICE}/{name}": handler for name, handler in (inspecting | inferring).items()}


def health_handlers(health: Health, calls: Calls) -> Handlers:
    """The methods of grpc.health.v1."""
    return {
        f"/{HEALTH_SERVICE}/Check": _unary(health_pb2.HealthCheckRequest, health.check, calls),
        f"/{HEALTH_SERVICE}/List": _unary(health_pb2.HealthListRequest, health.list_all, calls),
        f"/{HEALTH_SERVICE}/Watch": _watch(health, calls),
    }


def reflection_handlers(calls: Calls) -> Handlers:
    """The method of grpc.reflection.v1alpha, which tells what methods and messages there are."""
    servicer = aio.ReflectionServicer([SERVICE, HEALTH_SERVICE, REFLECTION_SERVICE])

    async def requests(
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        while (data := await calls.next_request(context)) is not None:
            yield read_message(reflection_pb2.ServerReflectionRequest, data)

    async def handle(_: object, context: grpc.aio.ServicerContext) -> None:
        try:
            calls.open_stream(context)
            async for response in servicer.ServerReflectionInfo(requests(context), context):
                await calls.send(context, response.SerializeToString())
        except ServingError as error:
            await abort(context, error)

    path = f"/{REFLECTION_SERVICE}/ServerReflectionInfo"
    return {path: grpc.stream_stream_rpc_method_handler(handle)}


def _unary(
    kind: type[M], method: Callable[[M], Awaitable[Message]], calls: Calls
) -> grpc.RpcMethodHandler:
    """A method that takes one message and returns one."""

    async def handle(_: object, context: grpc.aio.ServicerContext) -> bytes:
        try:
            message = read_message(kind, await calls.receive(context))
            answer = (await method(message)).SerializeToString()
            calls.answering(context)
            return answer
        except ServingError as error:
            refusal = error
        except grpc.aio.BaseError:
            raise
        except Exception as fault:
            refusal = incident(fault)
        return await abort(context, forgetful(refusal))

    return grpc.stream_unary_rpc_method_handler(handle)


def _watch(health: Health, calls: Calls) -> grpc.RpcMethodHandler:
    async def handle(_: object, context: grpc.aio.ServicerContext) -> None:
        try:
            data = await calls.receive(context)
            await health.watch(data, partial(calls.send, context))
        except ServingError as error:
            await abort(context, error)

    return grpc.stream_stream_rpc_method_handler(handle)
