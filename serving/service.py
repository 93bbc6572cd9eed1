"""The Open Inference Protocol servicer: converts requests and replies, and errors to statuses.

It knows nothing of Ray: a model is a description and an asynchronous function.

Reference: https://github.com/kserve/open-inference-protocol; the statuses follow google.rpc.Code.
"""

# ruff: noqa: N802 - the protocol names the methods

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

import grpc
import numpy as np
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from serving.errors import InvalidRequestError, OverloadedError, UnavailableError, UnknownModelError
from serving.model import ServedModel
from serving.signature import TensorSpec
from serving.tensors import decode_inputs, encode_outputs, quote, select_outputs

SERVER_NAME = "hpc-gateway"
SERVER_VERSION = "0.1.0"

# Takes a batch and returns its predictions. Raises OverloadedError or UnavailableError when it
# cannot start, and stops the work when it is cancelled.
Predict = Callable[[np.ndarray], Awaitable[np.ndarray]]

STATUSES: dict[type[Exception], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownModelError: grpc.StatusCode.NOT_FOUND,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    TimeoutError: grpc.StatusCode.DEADLINE_EXCEEDED,
}

# gRPC sends the text of an error in a header, and peers limit headers to 8 KiB.
_MAX_DETAILS = 2048

_log = logging.getLogger(__name__)


class InferenceService(oip_grpc.GRPCInferenceServiceServicer):
    """Serves one model, between `open` and `close`; outside them it answers UNAVAILABLE.

    Args:
        model: what is served.
        max_batch_size: largest batch a request may hold.
        timeout_s: time limit of a request whose client set none, or a longer one.
    """

    def __init__(self, model: ServedModel, *, max_batch_size: int, timeout_s: float) -> None:
        self._model = model
        self._predict: Predict | None = None
        self._max_batch_size = max_batch_size
        self._timeout_s = timeout_s

    @property
    def model_name(self) -> str:
        """Name under which clients ask for the model."""
        return self._model.name

    @property
    def ready(self) -> bool:
        """True if requests are answered."""
        return self._predict is not None

    def open(self, predict: Predict) -> None:
        """Answers requests with `predict` from now on."""
        self._predict = predict

    def close(self) -> None:
        """Turns new requests away; those that run go on."""
        self._predict = None

    async def ServerLive(
        self, request: oip.ServerLiveRequest, context: grpc.aio.ServicerContext
    ) -> oip.ServerLiveResponse:
        """The event loop answers, so the server lives."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: oip.ServerReadyRequest, context: grpc.aio.ServicerContext
    ) -> oip.ServerReadyResponse:
        """True once a replica is warm and until shutdown begins."""
        return oip.ServerReadyResponse(ready=self.ready)

    async def ModelReady(
        self, request: oip.ModelReadyRequest, context: grpc.aio.ServicerContext
    ) -> oip.ModelReadyResponse:
        """As ServerReady, or NOT_FOUND."""
        try:
            self._find(request.name, request.version)
        except UnknownModelError as error:
            await _abort(context, error)
        return oip.ModelReadyResponse(ready=self.ready)

    async def ServerMetadata(
        self, request: oip.ServerMetadataRequest, context: grpc.aio.ServicerContext
    ) -> oip.ServerMetadataResponse:
        """Name and version of this server."""
        return oip.ServerMetadataResponse(name=SERVER_NAME, version=SERVER_VERSION)

    async def ModelMetadata(
        self, request: oip.ModelMetadataRequest, context: grpc.aio.ServicerContext
    ) -> oip.ModelMetadataResponse:
        """Signature of the model, or NOT_FOUND."""
        try:
            self._find(request.name, request.version)
        except UnknownModelError as error:
            await _abort(context, error)
        model = self._model
        return oip.ModelMetadataResponse(
            name=model.name,
            versions=[model.version],
            platform=model.platform,
            inputs=[_metadata(model.input)],
            outputs=[_metadata(model.output)],
            properties=model.properties | {"max_batch_size": str(self._max_batch_size)},
        )

    async def ModelInfer(
        self, request: oip.ModelInferRequest, context: grpc.aio.ServicerContext
    ) -> oip.ModelInferResponse:
        """Predictions for a batch, or a status that says why not."""
        remaining_s = context.time_remaining()
        timeout_s = self._timeout_s if remaining_s is None else min(remaining_s, self._timeout_s)
        try:
            return await self._infer(request, timeout_s)
        except Exception as error:
            await _abort(context, error)
            raise

    async def _infer(
        self, request: oip.ModelInferRequest, timeout_s: float
    ) -> oip.ModelInferResponse:
        model = self._model
        self._find(request.model_name, request.model_version)
        predict = self._predict
        if predict is None:
            raise UnavailableError(f"model {model.name} is not ready; try again")
        outputs = select_outputs(request, [model.output])
        inputs = decode_inputs(request, [model.input], self._max_batch_size)
        # A cancelled call, by the client or by its deadline, cancels this coroutine and the work.
        async with asyncio.timeout(timeout_s):
            predictions = await predict(inputs[model.input.name])
        response = oip.ModelInferResponse(
            model_name=model.name, model_version=model.version, id=request.id
        )
        raw = bool(request.raw_input_contents)
        encode_outputs(response, [(spec, predictions) for spec in outputs], raw=raw)
        return response

    def _find(self, name: str, version: str) -> None:
        model = self._model
        if name != model.name:
            raise UnknownModelError(f"unknown model {quote(name)}; served here: {model.name!r}")
        if version not in ("", model.version):
            raise UnknownModelError(
                f"unknown version {quote(version)} of {model.name!r}; "
                f"served here: {model.version!r}, or leave it empty"
            )


async def _abort(context: grpc.aio.ServicerContext, error: Exception) -> None:
    """Ends the call with the status of `error`; an unexpected one is told to the log alone."""
    code = STATUSES.get(type(error))
    if code is None:
        # An error text can hold paths, names and data of others: the client gets a number only.
        incident = secrets.token_hex(8)
        _log.error("request failed, incident %s", incident, exc_info=error)
        await context.abort(grpc.StatusCode.INTERNAL, f"internal error, incident {incident}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        await context.abort(code, "the request was not answered in time")
    await context.abort(code, str(error)[:_MAX_DETAILS])


def _metadata(spec: TensorSpec) -> oip.ModelMetadataResponse.TensorMetadata:
    return oip.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=spec.shape
    )
