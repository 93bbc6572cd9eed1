"""The methods that tell of the server and its models, and that load and unload these.

Reference: https://github.com/kserve/open-inference-protocol, and for the repository
https://github.com/triton-inference-server/server, docs/protocol/extension_model_repository.md.
"""

from collections.abc import Mapping

from inference import grpc_service_pb2 as oip

from serving.core.engine import Engine
from serving.core.errors import Kind, ServingError, invalid, quote
from serving.core.model_control import ModelControl
from serving.core.signature import TensorSpec
from serving.protocols.request_ids import check_lengths
from serving.protocols.server_facts import EXTENSIONS, NAME, VERSION


class Inspection:
    """Answers all methods but those that infer. Each takes a message and returns one.

    Args:
        engine: Whose models these are.
        control: Loads and unloads them; None: clients may not.
    """

    def __init__(self, engine: Engine, control: ModelControl | None) -> None:
        self._engine = engine
        self._control = control

    async def server_live(self, _: oip.ServerLiveRequest) -> oip.ServerLiveResponse:
        """The event loop answers, so the server lives."""
        return oip.ServerLiveResponse(live=True)

    async def server_ready(self, _: oip.ServerReadyRequest) -> oip.ServerReadyResponse:
        """True if every model answers and the server is not shutting down."""
        return oip.ServerReadyResponse(ready=self._engine.server_why_not_ready() is None)

    async def model_ready(self, request: oip.ModelReadyRequest) -> oip.ModelReadyResponse:
        """True if the model answers."""
        check_lengths(request.name, request.version, "")
        reason = self._engine.why_not_ready(request.name, request.version)
        return oip.ModelReadyResponse(ready=reason is None)

    async def server_metadata(self, _: oip.ServerMetadataRequest) -> oip.ServerMetadataResponse:
        """Name, version and extensions of this server."""
        return oip.ServerMetadataResponse(name=NAME, version=VERSION, extensions=EXTENSIONS)

    async def model_metadata(self, request: oip.ModelMetadataRequest) -> oip.ModelMetadataResponse:
        """Signature of a model, and its versions."""
        check_lengths(request.name, request.version, "")
        model = self._engine.find(request.name, request.version)
        versions = [
            state.model.version for state in self._engine.models() if state.model.name == model.name
        ]
        return oip.ModelMetadataResponse(
            name=model.name,
            versions=versions,
            platform=model.platform,
            inputs=[_metadata(spec) for spec in model.inputs],
            outputs=[_metadata(spec) for spec in model.outputs],
            properties=model.properties,
        )

    async def repository_index(
        self, request: oip.RepositoryIndexRequest
    ) -> oip.RepositoryIndexResponse:
        """Every version of every model, or those that answer."""
        _check_repository(request.repository_name)
        response = oip.RepositoryIndexResponse()
        for model, state, reason in self._engine.models():
            if state == "READY" or not request.ready:
                response.models.add(
                    name=model.name, version=model.version, state=state, reason=reason
                )
        return response

    async def repository_model_load(
        self, request: oip.RepositoryModelLoadRequest
    ) -> oip.RepositoryModelLoadResponse:
        """Loads a model, or loads it again."""
        control = self._permitted()
        _check_repository(request.repository_name)
        check_lengths(request.model_name, "", "")
        _refuse_parameters(request.parameters, accepted=())
        await control.load(request.model_name)
        return oip.RepositoryModelLoadResponse()

    async def repository_model_unload(
        self, request: oip.RepositoryModelUnloadRequest
    ) -> oip.RepositoryModelUnloadResponse:
        """Serves a model no more."""
        control = self._permitted()
        _check_repository(request.repository_name)
        check_lengths(request.model_name, "", "")
        # No model here depends on another one, so that either value means the same.
        _refuse_parameters(request.parameters, accepted=("unload_dependents",))
        await control.unload(request.model_name)
        return oip.RepositoryModelUnloadResponse()

    def _permitted(self) -> ModelControl:
        if self._control is None:
            raise ServingError(
                Kind.DENIED,
                "models are not loaded or unloaded by clients of this server; its operator can "
                "start it with --allow-model-control",
            )
        return self._control


def _metadata(spec: TensorSpec) -> oip.ModelMetadataResponse.TensorMetadata:
    return oip.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=spec.shape
    )


def _check_repository(name: str) -> None:
    if name:
        raise invalid(
            f"repository_name is {quote(name)}; expected none, for this server has one repository"
        )


def _refuse_parameters(
    parameters: Mapping[str, oip.ModelRepositoryParameter], accepted: tuple[str, ...]
) -> None:
    for name, parameter in parameters.items():
        if name not in accepted:
            known = ", ".join(accepted) or "none: a model's configuration is part of its artifact"
            raise invalid(f"unknown parameter {quote(name)}; accepted: {known}")
        if not parameter.HasField("bool_param"):
            raise invalid(f"{name} is no bool_param; expected true or false")
