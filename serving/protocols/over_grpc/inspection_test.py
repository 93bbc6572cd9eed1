"""What the server says of itself and its models, and who may load and unload these."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import grpc
import pytest
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from serving.core.errors import Kind, ServingError
from serving.testing.grpc_server import RunningGrpc, infer_request, running_grpc
from serving.testing.local_replica import mean_of_each_row
from serving.testing.served_models import DIGITS

Stub = oip_grpc.GRPCInferenceServiceStub


class Control:
    """Keeps what it is told, and refuses the model "missing"."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    async def load(self, name: str) -> None:
        if name == "missing":
            raise ServingError(Kind.NOT_FOUND, "no such model")
        self.told.append(("load", name))

    async def unload(self, name: str) -> None:
        self.told.append(("unload", name))


@pytest.fixture(scope="module")
def running() -> Iterator[RunningGrpc]:
    """Two versions of one model, and one model whose replicas are gone."""
    newer = replace(DIGITS, version="2.0.0")
    dead = replace(DIGITS, name="dead")
    models = [(model, mean_of_each_row) for model in (DIGITS, newer, dead)]
    with running_grpc(models) as running:
        running.call(running.local.channels["dead", "1.2.3"].change)
        yield running


@pytest.fixture
def stub(running: RunningGrpc) -> Iterator[Stub]:
    with running.stub() as stub:
        yield stub


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code(), error.value.details()


def test_server_lives_and_names_its_extensions(stub: Stub) -> None:
    assert stub.ServerLive(oip.ServerLiveRequest()).live
    metadata = stub.ServerMetadata(oip.ServerMetadataRequest())
    assert metadata.name == "hpc-gateway"
    assert {"classification", "model_repository", "schedule_policy"} <= set(metadata.extensions)


@pytest.mark.parametrize(("version", "answers"), [("", "2.0.0"), ("1.2.3", "1.2.3")])
def test_metadata_states_the_signature(stub: Stub, version: str, answers: str) -> None:
    model = stub.ModelMetadata(oip.ModelMetadataRequest(name="digits", version=version))
    assert (model.name, list(model.versions), model.platform) == (
        "digits",
        ["2.0.0", "1.2.3"],
        "numpy_none",
    )
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [
        ("image", "FP32", [-1, 8, 8, 1])
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in model.outputs] == [
        ("logits", "FP32", [-1, 10])
    ]
    assert model.properties["max_batch_size"] == "8"
    assert stub.ModelInfer(infer_request(model_version=version)).model_version == answers


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("letters", "", "unknown model 'letters'; served here: 'digits', 'dead'"),
        ("digits ", "", "unknown model 'digits '"),
        ("../digits", "", "unknown model '../digits'"),
        ("", "", "unknown model ''"),
        ("digits", "3", "unknown version '3' of 'digits'; served here: '2.0.0', '1.2.3'"),
    ],
)
def test_unknown_model_is_not_found(stub: Stub, model: str, version: str, message: str) -> None:
    infer = infer_request(model_version=version)
    infer.model_name = model
    calls = [
        lambda: stub.ModelInfer(infer),
        lambda: stub.ModelReady(oip.ModelReadyRequest(name=model, version=version)),
        lambda: stub.ModelMetadata(oip.ModelMetadataRequest(name=model, version=version)),
    ]
    for call in calls:
        code, details = refused(call)
        assert code is grpc.StatusCode.NOT_FOUND
        assert details.startswith(message)


def test_readiness_is_the_truth(running: RunningGrpc, stub: Stub) -> None:
    assert stub.ModelReady(oip.ModelReadyRequest(name="digits")).ready
    assert not stub.ModelReady(oip.ModelReadyRequest(name="dead")).ready
    assert not stub.ServerReady(oip.ServerReadyRequest()).ready
    request = infer_request()
    request.model_name = "dead"
    code, details = refused(lambda: stub.ModelInfer(request))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "the replica died" in details


def test_index_lists_every_version_and_why_it_is_not_ready(stub: Stub) -> None:
    index = stub.RepositoryIndex(oip.RepositoryIndexRequest())
    assert [(m.name, m.version, m.state, m.reason) for m in index.models] == [
        ("digits", "2.0.0", "READY", ""),
        ("digits", "1.2.3", "READY", ""),
        ("dead", "1.2.3", "UNAVAILABLE", "the replica died"),
    ]


def test_index_lists_those_that_are_ready(stub: Stub) -> None:
    index = stub.RepositoryIndex(oip.RepositoryIndexRequest(ready=True))
    assert [(m.name, m.version) for m in index.models] == [("digits", "2.0.0"), ("digits", "1.2.3")]


def test_there_is_one_repository(stub: Stub) -> None:
    request = oip.RepositoryIndexRequest(repository_name="other")
    code, details = refused(lambda: stub.RepositoryIndex(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == (
        "repository_name is 'other'; expected none, for this server has one repository"
    )


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_clients_do_not_load_or_unload(stub: Stub, method: str) -> None:
    request = getattr(oip, f"{method}Request")(model_name="digits")
    code, details = refused(lambda: getattr(stub, method)(request))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "--allow-model-control" in details


def test_clients_load_and_unload_where_they_may() -> None:
    control = Control()
    with running_grpc(control=control) as running, running.stub() as stub:
        stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="digits"))
        unload = oip.RepositoryModelUnloadRequest(model_name="digits")
        unload.parameters["unload_dependents"].bool_param = False
        stub.RepositoryModelUnload(unload)
        assert control.told == [("load", "digits"), ("unload", "digits")]
        missing = oip.RepositoryModelLoadRequest(model_name="missing")
        assert refused(lambda: stub.RepositoryModelLoad(missing)) == (
            grpc.StatusCode.NOT_FOUND,
            "no such model",
        )
        configured = oip.RepositoryModelLoadRequest(model_name="digits")
        configured.parameters["config"].string_param = "{}"
        code, details = refused(lambda: stub.RepositoryModelLoad(configured))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details.startswith("unknown parameter 'config'; accepted: none")
        unload.parameters["unload_dependents"].string_param = "yes"
        code, details = refused(lambda: stub.RepositoryModelUnload(unload))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details == "unload_dependents is no bool_param; expected true or false"
        assert len(control.told) == 2
