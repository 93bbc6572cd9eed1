"""A real gRPC server of the protocol whose model answers each input with itself."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

MODEL = "echo"
VERSION = "1.2.3"


class _Echo(oip_grpc.GRPCInferenceServiceServicer):
    """Servicer of one model, written with nothing but protobuf."""

    def __init__(self, metadata: oip.ModelMetadataResponse) -> None:
        self._metadata = metadata

    def ServerLive(  # noqa: N802 - the protocol names the methods
        self, request: oip.ServerLiveRequest, context: grpc.ServicerContext
    ) -> oip.ServerLiveResponse:
        return oip.ServerLiveResponse(live=True)

    def ServerReady(  # noqa: N802
        self, request: oip.ServerReadyRequest, context: grpc.ServicerContext
    ) -> oip.ServerReadyResponse:
        return oip.ServerReadyResponse(ready=True)

    def ModelReady(  # noqa: N802
        self, request: oip.ModelReadyRequest, context: grpc.ServicerContext
    ) -> oip.ModelReadyResponse:
        self._check(request.name, context)
        return oip.ModelReadyResponse(ready=True)

    def ServerMetadata(  # noqa: N802
        self, request: oip.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> oip.ServerMetadataResponse:
        return oip.ServerMetadataResponse(
            name="echo-server", version="1", extensions=["model_repository"]
        )

    def RepositoryIndex(  # noqa: N802
        self, request: oip.RepositoryIndexRequest, context: grpc.ServicerContext
    ) -> oip.RepositoryIndexResponse:
        models = [
            {"name": MODEL, "version": VERSION, "state": "READY"},
            {"name": "other", "version": "2", "state": "UNAVAILABLE", "reason": "no replica"},
        ]
        return oip.RepositoryIndexResponse(models=models[:1] if request.ready else models)

    def ModelMetadata(  # noqa: N802
        self, request: oip.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> oip.ModelMetadataResponse:
        self._check(request.name, context)
        return self._metadata

    def ModelInfer(  # noqa: N802
        self, request: oip.ModelInferRequest, context: grpc.ServicerContext
    ) -> oip.ModelInferResponse:
        self._check(request.model_name, context)
        expected = {(spec.name, spec.datatype) for spec in self._metadata.inputs}
        found = {(tensor.name, tensor.datatype) for tensor in request.inputs}
        if expected and found != expected:
            message = f"got {sorted(found)}, expected {sorted(expected)}"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        response = oip.ModelInferResponse(
            model_name=MODEL,
            model_version=VERSION,
            id=request.id,
            raw_output_contents=request.raw_input_contents,
        )
        for tensor in request.inputs:
            response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        return response

    def _check(self, name: str, context: grpc.ServicerContext) -> None:
        if name != MODEL:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {name!r}")


@contextmanager
def echo_server(
    inputs: Sequence[oip.ModelMetadataResponse.TensorMetadata] = (),
    properties: dict[str, str] | None = None,
) -> Iterator[str]:
    """Runs the server; yields its address.

    Args:
        inputs: of its model, which are its outputs too; if none are given it takes any.
        properties: in its metadata.
    """
    metadata = oip.ModelMetadataResponse(
        name=MODEL,
        versions=[VERSION],
        platform="echo",
        inputs=inputs,
        outputs=inputs,
        properties=properties or {},
    )
    server = grpc.server(ThreadPoolExecutor(8))
    oip_grpc.add_GRPCInferenceServiceServicer_to_server(_Echo(metadata), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
