"""What holds for every method: garbage, calls without a request, names, and reflection."""

from collections.abc import Callable, Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from inference import grpc_service_pb2 as oip

from serving.protocols.over_grpc.methods import HEALTH_SERVICE, SERVICE
from serving.protocols.over_grpc.options import GrpcOptions
from serving.testing.grpc_server import RunningGrpc, running_grpc
from serving.testing.served_models import ALL


@pytest.fixture(scope="module")
def running() -> Iterator[RunningGrpc]:
    with running_grpc(ALL[:1]) as running:
        yield running


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code(), error.value.details()


# Every method's path, and the message that it takes.
METHODS = {
    f"/{method.containing_service.full_name}/{method.name}": method.input_type
    for service in (
        oip.DESCRIPTOR.services_by_name["GRPCInferenceService"],
        health_pb2.DESCRIPTOR.services_by_name["Health"],
        reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
    )
    for method in service.methods
}

NO_MESSAGE = b"\xff" * 100
# What only a message with a field can get wrong: a string that is no text, and one that is cut off.
GARBAGE = [NO_MESSAGE, b"\x0a\x02\xff\xfe", b"\x0a\x05abc"]


@pytest.fixture(scope="module")
def reflecting() -> Iterator[RunningGrpc]:
    options = GrpcOptions(reflection=True)
    with running_grpc(ALL[:1], options=options) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "garbage"),
    [(p, g) for p, m in METHODS.items() for g in GARBAGE if m.fields or g is NO_MESSAGE],
)
def test_garbage_is_one_line_in_every_method(
    reflecting: RunningGrpc, path: str, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with reflecting.channel() as channel:
        code, details = refused(lambda: list(channel.unary_stream(path)(garbage)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(f"the request is no {METHODS[path].full_name}: ")
    assert not caplog.records


@pytest.mark.parametrize("path", METHODS)
def test_a_call_without_a_request_is_refused_or_answered(
    reflecting: RunningGrpc, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with reflecting.channel() as channel:
        call = channel.stream_stream(path)(iter([]))
        if path.endswith(("ModelStreamInfer", "ServerReflectionInfo")):
            assert list(call) == []
        else:
            assert refused(lambda: list(call)) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "the call has no request; expected one message",
            )
    assert not caplog.records


def test_method_that_does_not_exist(running: RunningGrpc) -> None:
    with running.channel() as channel:
        for path in (f"/{SERVICE}/ModelTrain", "/other.Service/ModelInfer", f"{SERVICE}"):
            code, _ = refused(lambda path=path: channel.unary_unary(path)(b""))
            assert code is grpc.StatusCode.UNIMPLEMENTED


def services_of(running: RunningGrpc) -> set[str]:
    with running.channel() as channel:
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        (answer,) = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    return {service.name for service in answer.list_services_response.service}


def test_reflection_is_an_option(running: RunningGrpc, reflecting: RunningGrpc) -> None:
    assert {SERVICE, HEALTH_SERVICE} <= services_of(reflecting)
    code, _ = refused(lambda: services_of(running))
    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_reflection_tells_of_messages(reflecting: RunningGrpc) -> None:
    asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)] * 2
    with reflecting.channel() as channel:
        answers = list(
            reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(asked))
        )
    assert len(answers) == 2
    for answer in answers:
        assert oip.DESCRIPTOR.serialized_pb in (
            answer.file_descriptor_response.file_descriptor_proto
        )
