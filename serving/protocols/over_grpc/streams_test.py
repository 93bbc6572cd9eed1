"""ModelStreamInfer: every request is answered once, in order, and nothing is kept."""

import queue
import threading
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from inference import grpc_service_pb2 as oip

from serving.core.errors import Kind, ServingError
from serving.core.request import Protocol
from serving.protocols.over_grpc.options import GrpcOptions
from serving.protocols.over_grpc.streams import MAX_IN_FLIGHT
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

Response = oip.ModelStreamInferResponse


@pytest.fixture(scope="module")
def running() -> Iterator[RunningGrpc]:
    with running_grpc() as running:
        yield running


@pytest.fixture
def channels() -> list[HeldChannel]:
    """Two replicas that answer when told."""
    return [HeldChannel("replica-1"), HeldChannel("replica-2")]


@pytest.fixture
def held(channels: list[HeldChannel]) -> Iterator[RunningGrpc]:
    with running_grpc([(DIGITS, channels[0])], options=GrpcOptions(timeout_s=300)) as running:
        replicas = running.local.channels["digits", "1.2.3"]
        running.call(lambda: replicas.change(*channels))
        yield running


class Requests:
    """A stream's requests, sent one by one."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[oip.ModelInferRequest | None] = queue.SimpleQueue()

    def send(self, request: oip.ModelInferRequest) -> None:
        self._queue.put(request)

    def end(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[oip.ModelInferRequest]:
        return iter(self._queue.get, None)


def logits_of(response: Response) -> np.ndarray:
    assert not response.error_message
    return np.frombuffer(response.infer_response.raw_output_contents[0], "<f4")


def test_answers_each_request_once_and_in_order(running: RunningGrpc) -> None:
    rng = np.random.default_rng(0)
    images = [rng.random((rng.integers(1, 4), 8, 8, 1), dtype=np.float32) for _ in range(50)]
    requests = [infer_request(batch, id=f"request-{n}") for n, batch in enumerate(images)]
    with running.stub() as stub:
        responses = list(stub.ModelStreamInfer(iter(requests)))
    assert [r.infer_response.id for r in responses] == [request.id for request in requests]
    for response, batch in zip(responses, images, strict=True):
        expected = batch.mean(axis=(1, 2, 3))[:, np.newaxis] + np.arange(10)
        np.testing.assert_allclose(logits_of(response), expected.ravel(), rtol=1e-6)
    outcomes = running.local.recorder.outcomes[-50:]
    assert {outcome.call.protocol for outcome in outcomes} == {Protocol.GRPC_STREAM}
    assert len({outcome.call.request_id for outcome in outcomes}) == 50


def test_answers_what_came_before_more_comes(running: RunningGrpc) -> None:
    requests = Requests()
    with running.stub() as stub:
        responses = stub.ModelStreamInfer(iter(requests))
        for number in range(3):
            requests.send(infer_request(id=str(number)))
            assert next(responses).infer_response.id == str(number)
        requests.end()
        assert list(responses) == []
        assert responses.code() is grpc.StatusCode.OK


def test_a_request_that_fails_says_why_and_the_stream_goes_on(running: RunningGrpc) -> None:
    wrong = infer_request(id="wrong")
    wrong.inputs[0].shape[:] = [1, 8, 8]
    unknown = infer_request(id="unknown")
    unknown.model_name = "letters"
    requests = [infer_request(id="0"), wrong, infer_request(id="1"), unknown, infer_request(id="2")]
    with running.stub() as stub:
        responses = list(stub.ModelStreamInfer(iter(requests)))
    assert [r.infer_response.id for r in responses] == ["0", "wrong", "1", "unknown", "2"]
    assert responses[1].error_message == (
        "input 'image' has shape [1, 8, 8]; expected [-1, 8, 8, 1]"
    )
    assert responses[3].error_message.startswith("unknown model 'letters'; served here: 'digits'")
    assert [bool(r.error_message) for r in responses] == [False, True, False, True, False]


def test_a_fault_is_opaque(held: RunningGrpc, channels: list[HeldChannel]) -> None:
    with held.stub() as stub:
        responses = stub.ModelStreamInfer(iter([infer_request(id="7")]))
        wait_for(lambda: any(channel.in_flight for channel in channels))
        wrong = {"logits": np.zeros((1, 3), np.float32)}
        (busy,) = [channel for channel in channels if channel.in_flight]
        held.call(lambda: busy.finish(lambda _: wrong))
        (response,) = responses
    assert response.error_message.startswith("internal error, incident ")
    assert response.infer_response.id == "7"


def test_what_is_no_request_ends_the_stream_after_the_answers_before(running: RunningGrpc) -> None:
    messages = [infer_request(id="0").SerializeToString(), b"\xff" * 9, b"never read"]
    with running.channel() as channel:
        call = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            response_deserializer=Response.FromString,
        )(iter(messages))
        assert next(call).infer_response.id == "0"
        with pytest.raises(grpc.RpcError) as error:
            next(call)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().startswith("the request is no inference.ModelInferRequest")


def test_requests_are_computed_at_once_and_answered_in_order(
    held: RunningGrpc, channels: list[HeldChannel]
) -> None:
    first, second = (example_images() * scale for scale in (1, 2))
    with held.stub() as stub:
        requests = [infer_request(first, id="first"), infer_request(second, id="second")]
        responses = stub.ModelStreamInfer(iter(requests))
        wait_for(lambda: all(channel.in_flight for channel in channels))
        (of_second,) = [
            channel
            for channel in channels
            if np.array_equal(channel.jobs[0].inputs["image"][0], second)
        ]
        (of_first,) = [channel for channel in channels if channel is not of_second]
        held.call(lambda: of_second.finish(mean_of_each_row))
        wait_for(lambda: len(held.local.recorder.outcomes) == 1)
        held.call(lambda: of_first.finish(mean_of_each_row))
        assert [response.infer_response.id for response in responses] == ["first", "second"]


def test_a_caller_that_goes_away_cancels_all(
    held: RunningGrpc, channels: list[HeldChannel]
) -> None:
    with held.stub() as stub:
        responses = stub.ModelStreamInfer(iter([infer_request() for _ in range(10)]))
        wait_for(lambda: held.local.admission.requests == 10)
        responses.cancel()
        wait_for(lambda: held.local.admission.requests == 0)
    kinds = [outcome.error.kind for outcome in held.local.recorder.outcomes if outcome.error]
    assert kinds == [Kind.CANCELLED] * 10
    assert all(channel.cancelled == channel.jobs for channel in channels)


def test_a_caller_that_does_not_wait_for_answers_is_held_back(
    held: RunningGrpc, channels: list[HeldChannel]
) -> None:
    sent = threading.Semaphore(0)

    def endless() -> Iterator[oip.ModelInferRequest]:
        while True:
            sent.release()
            yield infer_request()

    bound = MAX_IN_FLIGHT + 2  # one is being answered, one waits for a place
    with held.stub() as stub:
        responses = stub.ModelStreamInfer(endless())
        wait_for(lambda: held.local.admission.requests == bound)
        for _ in range(4 * bound):  # what the client can send, gRPC's own buffers hold
            sent.acquire()
        assert held.local.admission.requests <= bound
        responses.cancel()
        wait_for(lambda: held.local.admission.requests == 0)


def test_each_request_has_its_own_timeout(held: RunningGrpc) -> None:
    hasty = infer_request(id="hasty")
    hasty.parameters["timeout"].int64_param = 1
    with held.stub() as stub:
        requests = Requests()
        responses = stub.ModelStreamInfer(iter(requests))
        requests.send(hasty)
        response = next(responses)
        assert response.infer_response.id == "hasty"
        assert "in time" in response.error_message
        requests.end()


def test_errors_have_no_status_of_their_own(held: RunningGrpc, channels: list[HeldChannel]) -> None:
    error = ServingError(Kind.OVERLOADED, "full", retry_after_s=1)
    with held.stub() as stub:
        responses = stub.ModelStreamInfer(iter([infer_request()]))
        wait_for(lambda: any(channel.in_flight for channel in channels))
        (busy,) = [channel for channel in channels if channel.in_flight]
        held.call(lambda: busy.fail(error))
        assert [response.error_message for response in responses] == ["full"]
        assert responses.code() is grpc.StatusCode.OK
        assert responses.result is not None


def test_a_drain_answers_what_came_and_ends_the_stream(
    held: RunningGrpc, channels: list[HeldChannel]
) -> None:
    requests = Requests()
    with held.stub() as stub:
        responses = stub.ModelStreamInfer(iter(requests))
        requests.send(infer_request(id="came"))
        wait_for(lambda: any(channel.in_flight for channel in channels))
        (busy,) = [channel for channel in channels if channel.in_flight]
        stopped = held.begin(held.server.stop(WAIT_S))
        wait_for(lambda: not held.accepts_connections())
        held.call(lambda: busy.finish(mean_of_each_row))
        assert next(responses).infer_response.id == "came"
        with pytest.raises(grpc.RpcError) as error:
            next(responses)
        requests.end()
        stopped.result(WAIT_S)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert error.value.details() == "the server is shutting down"
