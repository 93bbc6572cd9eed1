"""ModelInfer over real connections: answers, statuses, deadlines, cancellation and ids."""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from inference import grpc_service_pb2 as oip

from serving.core.errors import Kind, ServingError
from serving.core.request import Protocol
from serving.protocols.over_grpc.model_infer import client_of
from serving.protocols.over_grpc.options import GrpcOptions
from serving.protocols.statuses import STATUSES
from serving.testing.grpc_server import (
    WAIT_S,
    RunningGrpc,
    example_images,
    infer_request,
    running_grpc,
    wait_for,
)
from serving.testing.held_channels import HeldChannel
from serving.testing.local_replica import mean_of_each_row
from serving.testing.served_models import DIGITS


@pytest.fixture(scope="module")
def running() -> Iterator[RunningGrpc]:
    with running_grpc() as running:
        yield running


@pytest.fixture
def channel() -> HeldChannel:
    """A replica that answers when told."""
    return HeldChannel("replica-1")


@pytest.fixture
def held(channel: HeldChannel) -> Iterator[RunningGrpc]:
    """A server with that replica."""
    options = GrpcOptions(timeout_s=300.0)
    with running_grpc([(DIGITS, channel)], options=options) as running:
        yield running


def metadata_of(call: grpc.Call | grpc.RpcError) -> dict[str, str]:
    return dict(call.trailing_metadata())


@pytest.mark.parametrize("batch", [1, 3])
def test_answers_raw_requests_raw(running: RunningGrpc, batch: int) -> None:
    images = example_images(batch)
    with running.stub() as stub:
        responses = [stub.ModelInfer(infer_request(images)) for _ in range(3)]
    for response in responses:
        assert (response.model_name, response.model_version) == ("digits", "1.2.3")
        (output,) = response.outputs
        assert (output.name, output.datatype, list(output.shape)) == ("logits", "FP32", [batch, 10])
        logits = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(batch, 10)
        expected = images.mean(axis=(1, 2, 3))[:, np.newaxis] + np.arange(10)
        np.testing.assert_allclose(logits, expected, rtol=1e-6)  # one rounding to float32


def test_answers_typed_requests_typed(running: RunningGrpc) -> None:
    typed = infer_request()
    del typed.raw_input_contents[:]
    typed.inputs[0].contents.fp32_contents.extend(example_images().ravel().tolist())
    with running.stub() as stub:
        response, raw = stub.ModelInfer(typed), stub.ModelInfer(infer_request())
    assert not response.raw_output_contents
    np.testing.assert_array_equal(
        np.array(response.outputs[0].contents.fp32_contents, np.float32),
        np.frombuffer(raw.raw_output_contents[0], "<f4"),
    )


@pytest.mark.parametrize("message_id", ["request-7", "x" * 256])
def test_repeats_the_id(running: RunningGrpc, message_id: str) -> None:
    with running.stub() as stub:
        assert stub.ModelInfer(infer_request(id=message_id)).id == message_id


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.CANCELLED])
def test_each_error_has_its_status(held: RunningGrpc, channel: HeldChannel, kind: Kind) -> None:
    error = ServingError(kind, "why it was not answered: ä", retry_after_s=0.25)
    with held.stub() as stub:
        call = stub.ModelInfer.future(infer_request())
        wait_for(lambda: channel.in_flight)
        held.call(lambda: channel.fail(error))
        with pytest.raises(grpc.RpcError) as caught:
            call.result(WAIT_S)
    assert caught.value.code() is STATUSES[kind].grpc
    assert caught.value.details() == error.message
    pushback = metadata_of(caught.value).get("grpc-retry-pushback-ms")
    told = {Kind.OVERLOADED: "250", Kind.UNAVAILABLE: "250", Kind.TOO_LARGE: "-1"}
    assert pushback == told.get(kind)


def test_unexpected_fault_is_opaque(
    held: RunningGrpc, channel: HeldChannel, caplog: pytest.LogCaptureFixture
) -> None:
    def contradict(_: object) -> dict[str, np.ndarray]:
        return {"logits": np.zeros((1, 3), np.float32)}

    with held.stub() as stub:
        call = stub.ModelInfer.future(infer_request())
        wait_for(lambda: channel.in_flight)
        held.call(lambda: channel.finish(contradict))
        with pytest.raises(grpc.RpcError) as error:
            call.result(WAIT_S)
    assert error.value.code() is grpc.StatusCode.INTERNAL
    incident = re.fullmatch("internal error, incident ([0-9a-f]{16})", error.value.details())
    assert incident is not None
    assert incident[1] in caplog.text  # the operator finds the cause by the client's number
    assert "its signature says logits" in caplog.text


def test_long_messages_are_cut(held: RunningGrpc, channel: HeldChannel) -> None:
    with held.stub() as stub:
        call = stub.ModelInfer.future(infer_request())
        wait_for(lambda: channel.in_flight)
        held.call(lambda: channel.fail(ServingError(Kind.INVALID, "€" * 100_000)))
        with pytest.raises(grpc.RpcError) as error:
            call.result(WAIT_S)
    assert error.value.details() == "€" * (2048 // 3)


def test_deadline_of_the_client_stops_the_work(held: RunningGrpc, channel: HeldChannel) -> None:
    timeout_s = 0.1
    with held.stub() as stub:
        while not channel.jobs:  # a machine may be too busy to begin within a deadline
            timeout_s *= 2
            with pytest.raises(grpc.RpcError) as error:
                stub.ModelInfer(infer_request(), timeout=timeout_s)
            assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        wait_for(lambda: channel.cancelled == channel.jobs)


def test_cancelled_call_stops_the_work(held: RunningGrpc, channel: HeldChannel) -> None:
    with held.stub() as stub:
        call = stub.ModelInfer.future(infer_request())
        wait_for(lambda: channel.jobs)
        call.cancel()
        wait_for(lambda: channel.cancelled == channel.jobs)
    wait_for(lambda: held.local.recorder.outcomes)
    (outcome,) = held.local.recorder.outcomes
    assert outcome.error is not None and outcome.error.kind is Kind.CANCELLED


def test_calls_run_at_once(held: RunningGrpc, channel: HeldChannel) -> None:
    with held.stub() as stub:
        calls = [stub.ModelInfer.future(infer_request()) for _ in range(8)]
        wait_for(lambda: held.local.admission.requests == 8)
        while not all(call.done() for call in calls):
            if channel.in_flight:
                held.call(lambda: channel.finish(mean_of_each_row))
        assert all(call.result().outputs for call in calls)


@pytest.mark.parametrize(
    ("client_s", "parameter_us", "expected_s"),
    [
        (None, None, 300.0),
        (100.0, None, 100.0),
        (1000.0, None, 300.0),
        (100.0, 50_000_000, 50.0),
        (100.0, 200_000_000, 100.0),
        (None, 0, 300.0),
    ],
)
def test_the_shortest_of_three_limits_is_the_deadline(
    held: RunningGrpc,
    channel: HeldChannel,
    client_s: float | None,
    parameter_us: int | None,
    expected_s: float,
) -> None:
    request = infer_request()
    if parameter_us is not None:
        request.parameters["timeout"].int64_param = parameter_us
    with held.stub() as stub:
        before = time.monotonic()
        call = stub.ModelInfer.future(request, timeout=client_s)
        wait_for(lambda: channel.in_flight)
        held.call(lambda: channel.finish(mean_of_each_row))
        call.result(WAIT_S)
        after = time.monotonic()
    (outcome,) = held.local.recorder.outcomes
    # On the wire, long deadlines are rounded up to seconds.
    assert before + expected_s - 2 <= outcome.call.deadline <= after + expected_s + 2


@pytest.mark.parametrize("param", ["uint64_param", "int64_param"])
def test_priority_is_handed_on(running: RunningGrpc, param: str) -> None:
    request = infer_request()
    setattr(request.parameters["priority"], param, 3)
    with running.stub() as stub:
        stub.ModelInfer(request)
    assert running.local.recorder.outcomes[-1].call.priority == 3


def test_engine_is_told_who_asks_and_how_much(running: RunningGrpc) -> None:
    request = infer_request(example_images(2))
    with running.stub() as stub:
        for _ in range(2):  # the second time it is known
            stub.ModelInfer(request)
            call = running.local.recorder.outcomes[-1].call
            assert (call.protocol, call.model, call.version) == (Protocol.GRPC, "digits", "")
            assert call.client == "127.0.0.1"
            assert call.size_bytes == len(request.SerializeToString())


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv4:10.1.2.3:50051", "10.1.2.3"),
        ("ipv6:%5B::1%5D:50051", "%5B::1%5D"),
        ("unix:/tmp/socket", "unix:/tmp/socket"),
    ],
)
def test_client_is_an_address_without_port(peer: str, client: str) -> None:
    class Context:
        def peer(self) -> str:
            return peer

    assert client_of(Context()) == client


def test_well_formed_request_id_is_taken_and_returned(running: RunningGrpc) -> None:
    metadata = (("x-request-id", "trace-42"),)
    with running.stub() as stub:
        _, call = stub.ModelInfer.with_call(infer_request(), metadata=metadata)
        assert metadata_of(call) == {"x-request-id": "trace-42"}
        assert running.local.recorder.outcomes[-1].call.request_id == "trace-42"
        with pytest.raises(grpc.RpcError) as error:
            stub.ModelInfer(oip.ModelInferRequest(), metadata=metadata)
        assert metadata_of(error.value) == {"x-request-id": "trace-42"}


def test_other_request_id_is_replaced(running: RunningGrpc) -> None:
    with running.stub() as stub:
        _, call = stub.ModelInfer.with_call(infer_request(), metadata=(("x-request-id", 'a "b"'),))
    made = metadata_of(call)["x-request-id"]
    assert '"' not in made
    assert running.local.recorder.outcomes[-1].call.request_id == made


def test_request_id_is_made_and_told_with_an_error(running: RunningGrpc) -> None:
    with running.stub() as stub:
        _, call = stub.ModelInfer.with_call(infer_request())
        assert metadata_of(call) == {}  # it costs every answer, and nobody asked
        made = running.local.recorder.outcomes[-1].call.request_id
        with pytest.raises(grpc.RpcError) as error:
            stub.ModelInfer(oip.ModelInferRequest())
        told = metadata_of(error.value)["x-request-id"]
        assert told == running.local.recorder.outcomes[-1].call.request_id != made


def test_refusals_before_the_engine_are_reported(
    running: RunningGrpc, caplog: pytest.LogCaptureFixture
) -> None:
    with running.channel() as channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(b"\xff")
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    outcome = running.local.recorder.outcomes[-1]
    assert outcome.error is not None and outcome.error.message == error.value.details()
    assert (outcome.call.model, outcome.known) == ("", False)
    assert not caplog.records


def test_a_burst_is_refused_and_not_cancelled(channel: HeldChannel) -> None:
    """GRPC itself cancels some calls once a thousand wait to be looked at."""
    arrived = threading.Event()
    options = GrpcOptions(max_streams=4000)
    with (
        running_grpc([(DIGITS, channel)], options=options, max_requests=8) as running,
        running.stub() as stub,
    ):
        running.loop.call_soon_threadsafe(arrived.wait, WAIT_S)  # the loop looks at none
        calls = [stub.ModelInfer.future(infer_request()) for _ in range(3000)]
        threading.Event().wait(1.0)  # that they are sent is not to be seen
        arrived.set()
        wait_for(lambda: sum(call.done() for call in calls) == 3000 - 8)
        codes = Counter(call.code() for call in calls if call.done())
        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED: 3000 - 8}
        for call in calls:
            call.cancel()
