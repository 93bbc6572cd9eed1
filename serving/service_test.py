"""The servicer over a real gRPC connection, with a function in place of Ray."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from serving.errors import OverloadedError, StartError, UnavailableError
from serving.example import EXAMPLE_MODEL, WAIT_S, example_images, running_server
from serving.health import HealthService
from serving.server import SERVICE_NAME, GatewayServer
from serving.service import InferenceService, Predict

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

# A grace period that no test outlives.
FOREVER_S = 3600.0


async def mean_of_each_row(batch: np.ndarray) -> np.ndarray:
    """A model that can be checked by hand: logits[i] = mean(image) + i."""
    means = batch.reshape(len(batch), -1).mean(axis=1, keepdims=True)
    return (means + np.arange(10)).astype(np.float32)


def raising(error: Exception) -> Predict:
    async def predict(batch: np.ndarray) -> np.ndarray:
        raise error

    return predict


def stub(address: str) -> oip_grpc.GRPCInferenceServiceStub:
    return oip_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address))


def request(
    batch: int = 1, *, request_id: str = "", model_version: str = ""
) -> oip.ModelInferRequest:
    images = example_images(batch)
    message = oip.ModelInferRequest(
        model_name="digits",
        model_version=model_version,
        id=request_id,
        raw_input_contents=[images.tobytes()],
    )
    message.inputs.add(name="image", datatype="FP32", shape=images.shape)
    return message


@pytest.fixture
def address() -> Iterator[str]:
    with running_server(mean_of_each_row) as (address, _, _):
        yield address


def test_infers_in_raw_form(address: str) -> None:
    response = stub(address).ModelInfer(request(3, request_id="request-7"))
    assert (response.model_name, response.model_version) == ("digits", "1.2.3")
    assert response.id == "request-7"
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("logits", "FP32", [3, 10])
    assert not output.HasField("contents")
    logits = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(3, 10)
    expected = example_images(3).mean(axis=(1, 2, 3))[:, np.newaxis] + np.arange(10)
    np.testing.assert_allclose(logits, expected, rtol=1e-6)  # one rounding to float32


def test_answers_in_the_form_it_was_asked(address: str) -> None:
    message = request()
    del message.raw_input_contents[:]
    message.inputs[0].contents.fp32_contents.extend(example_images(1).ravel().tolist())
    response = stub(address).ModelInfer(message)
    raw_response = stub(address).ModelInfer(request())
    assert not response.raw_output_contents
    np.testing.assert_array_equal(
        np.array(response.outputs[0].contents.fp32_contents, np.float32),
        np.frombuffer(raw_response.raw_output_contents[0], "<f4"),
    )


def test_metadata_states_the_signature(address: str) -> None:
    model = stub(address).ModelMetadata(oip.ModelMetadataRequest(name="digits", version="1.2.3"))
    assert (model.name, list(model.versions), model.platform) == (
        "digits",
        ["1.2.3"],
        "flax_safetensors",
    )
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [
        ("image", "FP32", [-1, 8, 8, 1])
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in model.outputs] == [
        ("logits", "FP32", [-1, 10])
    ]
    assert model.properties["max_batch_size"] == "64"
    assert stub(address).ServerMetadata(oip.ServerMetadataRequest()).name == "hpc-gateway"


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("letters", "", "unknown model 'letters'; served here: 'digits'"),
        ("digits ", "", "unknown model 'digits '"),
        ("../digits", "", "unknown model '../digits'"),
        ("", "", "unknown model ''"),
        ("digits", "2.0.0", "unknown version '2.0.0' of 'digits'; served here: '1.2.3'"),
    ],
)
def test_unknown_model_is_not_found(address: str, model: str, version: str, message: str) -> None:
    infer = request(model_version=version)
    infer.model_name = model
    calls = [
        lambda: stub(address).ModelInfer(infer),
        lambda: stub(address).ModelReady(oip.ModelReadyRequest(name=model, version=version)),
        lambda: stub(address).ModelMetadata(oip.ModelMetadataRequest(name=model, version=version)),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as error:
            call()
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        assert message in error.value.details()


def test_malformed_tensor_is_answered_with_the_signature(address: str) -> None:
    message = request()
    message.inputs[0].shape[:] = [1, 8, 8]
    with pytest.raises(grpc.RpcError) as error:
        stub(address).ModelInfer(message)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Expected inputs: image FP32 [-1, 8, 8, 1]" in error.value.details()


def test_garbage_is_refused_and_does_no_harm(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(f"/{SERVICE_NAME}/ModelInfer")
        for garbage in (b"\xff" * 100, b"\x0a\x02\xff\xfe"):  # no message; not UTF-8
            with pytest.raises(grpc.RpcError):
                call(garbage)
    assert stub(address).ModelInfer(request()).outputs


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (OverloadedError("full"), grpc.StatusCode.RESOURCE_EXHAUSTED, "full"),
        (UnavailableError("gone"), grpc.StatusCode.UNAVAILABLE, "gone"),
    ],
)
def test_error_of_the_model_has_its_status(
    error: Exception, code: grpc.StatusCode, details: str
) -> None:
    with running_server(raising(error)) as (address, _, _), pytest.raises(grpc.RpcError) as caught:
        stub(address).ModelInfer(request())
    assert (caught.value.code(), caught.value.details()) == (code, details)


def test_unexpected_error_is_opaque(caplog: pytest.LogCaptureFixture) -> None:
    secret = RuntimeError("password in /etc/secret")
    with running_server(raising(secret)) as (address, _, _), pytest.raises(grpc.RpcError) as error:
        stub(address).ModelInfer(request())
    assert error.value.code() is grpc.StatusCode.INTERNAL
    incident = re.fullmatch("internal error, incident ([0-9a-f]{16})", error.value.details())
    assert incident is not None
    assert incident[1] in caplog.text  # the operator finds the cause by the client's number
    assert "password in /etc/secret" in caplog.text


class Slow:
    """A model that never answers, and notices when its work is cancelled."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.cancelled = threading.Event()

    async def predict(self, batch: np.ndarray) -> np.ndarray:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return batch


def test_deadline_of_the_client_stops_the_work() -> None:
    slow = Slow()
    with running_server(slow.predict) as (address, _, _):
        with pytest.raises(grpc.RpcError) as error:
            stub(address).ModelInfer(request(), timeout=2.0)
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert slow.cancelled.wait(WAIT_S)


def test_server_limits_a_client_without_deadline() -> None:
    slow = Slow()
    with running_server(slow.predict, timeout_s=0.2) as (address, _, _):
        with pytest.raises(grpc.RpcError) as error:
            stub(address).ModelInfer(request())
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert slow.cancelled.is_set()


def test_cancelled_call_stops_the_work() -> None:
    slow = Slow()
    with running_server(slow.predict) as (address, _, _):
        call = stub(address).ModelInfer.future(request())
        assert slow.started.wait(WAIT_S)
        call.cancel()
        assert slow.cancelled.wait(WAIT_S)


def test_calls_run_concurrently() -> None:
    everyone = asyncio.Barrier(8)

    async def predict(batch: np.ndarray) -> np.ndarray:
        await everyone.wait()  # passes only if eight calls are inside
        return await mean_of_each_row(batch)

    with running_server(predict) as (address, _, _):
        calls = [stub(address).ModelInfer.future(request()) for _ in range(everyone.parties)]
        assert all(call.result(WAIT_S).outputs for call in calls)


def test_message_limit_is_exact() -> None:
    limit = len(request().SerializeToString())
    with running_server(mean_of_each_row, max_message_bytes=limit) as (address, _, _):
        assert stub(address).ModelInfer(request()).outputs
        with pytest.raises(grpc.RpcError) as error:
            stub(address).ModelInfer(request(request_id="1"))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def health_of(address: str, service: str) -> int:
    with grpc.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return check(health_pb2.HealthCheckRequest(service=service)).status


@pytest.mark.parametrize("service", ["", SERVICE_NAME, "digits"])
def test_health_follows_readiness(service: str) -> None:
    with running_server(None) as (address, server, loop):
        assert health_of(address, service) == NOT_SERVING
        asyncio.run_coroutine_threadsafe(server.open(mean_of_each_row), loop).result(WAIT_S)
        assert health_of(address, service) == SERVING


def test_before_ready_it_lives_but_turns_requests_away() -> None:
    with running_server(None) as (address, _, _):
        assert stub(address).ServerLive(oip.ServerLiveRequest()).live
        assert not stub(address).ServerReady(oip.ServerReadyRequest()).ready
        assert not stub(address).ModelReady(oip.ModelReadyRequest(name="digits")).ready
        with pytest.raises(grpc.RpcError) as error:
            stub(address).ModelInfer(request())
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_unknown_service_has_no_health(address: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        health_of(address, "letters")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def accepts_connections(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_drain_lets_running_calls_finish() -> None:
    started, finish = threading.Event(), threading.Event()

    async def predict(batch: np.ndarray) -> np.ndarray:
        started.set()
        await asyncio.to_thread(finish.wait, WAIT_S)
        return await mean_of_each_row(batch)

    with running_server(predict) as (address, server, loop):
        call = stub(address).ModelInfer.future(request())
        assert started.wait(WAIT_S)
        drain = asyncio.run_coroutine_threadsafe(server.drain(WAIT_S), loop)
        while accepts_connections(address):
            time.sleep(0.01)
        with pytest.raises(grpc.RpcError) as error:
            stub(address).ModelInfer(request())
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        finish.set()
        assert call.result(WAIT_S).outputs
        drain.result(WAIT_S)


@pytest.mark.parametrize("service", ["", SERVICE_NAME, "digits", "letters"])
def test_watch_ends_when_draining_begins(service: str) -> None:
    started = threading.Event()

    async def predict(batch: np.ndarray) -> np.ndarray:
        started.set()
        await asyncio.Event().wait()
        return batch

    with running_server(predict) as (address, server, loop), grpc.insecure_channel(address) as ch:
        watch = health_pb2_grpc.HealthStub(ch).Watch
        statuses = watch(health_pb2.HealthCheckRequest(service=service))
        first = next(statuses).status
        call = stub(address).ModelInfer.future(request())
        assert started.wait(WAIT_S)
        # For ever but for the call below: what ends the watch is the beginning of the drain.
        drain = asyncio.run_coroutine_threadsafe(server.drain(grace_s=FOREVER_S), loop)
        rest = [response.status for response in statuses]
        assert not drain.done()
        assert statuses.code() is grpc.StatusCode.OK
        call.cancel()
        drain.result(WAIT_S)
    expected = [SERVING, NOT_SERVING]
    assert [first, *rest] == ([UNKNOWN] if service == "letters" else expected)


def test_idle_watchers_do_not_hold_up_a_shutdown() -> None:
    with running_server(mean_of_each_row) as (address, server, loop), ExitStack() as stack:
        watches = []
        for _ in range(20):
            ch = stack.enter_context(grpc.insecure_channel(address))
            watches.append(health_pb2_grpc.HealthStub(ch).Watch(health_pb2.HealthCheckRequest()))
            assert next(watches[-1]).status == SERVING
        asyncio.run_coroutine_threadsafe(server.drain(grace_s=FOREVER_S), loop).result(WAIT_S)
        assert [[response.status for response in watch] for watch in watches] == [
            [NOT_SERVING]
        ] * 20


def _silent(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)))


def _half_a_preface(address: str) -> socket.socket:
    connection = _silent(address)
    connection.sendall(b"PRI * HTTP/2.0\r\n")
    return connection


def _acknowledging_nothing(address: str) -> socket.socket:
    connection = _silent(address)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
    assert connection.recv(1)
    return connection


@pytest.mark.parametrize("connect", [_silent, _half_a_preface, _acknowledging_nothing])
def test_connections_that_say_nothing_do_not_hold_up_a_shutdown(
    connect: Callable[[str], socket.socket],
) -> None:
    with running_server(mean_of_each_row) as (address, server, loop), connect(address):
        assert stub(address).ModelInfer(request()).outputs
        asyncio.run_coroutine_threadsafe(server.drain(grace_s=FOREVER_S), loop).result(WAIT_S)


def test_a_call_whose_request_never_comes_does_not_hold_up_a_shutdown() -> None:
    end = threading.Event()

    def never() -> Iterator[bytes]:
        end.wait()
        yield b""

    with running_server(mean_of_each_row) as (address, server, loop), ExitStack() as stack:
        channel = stack.enter_context(grpc.insecure_channel(address))
        stack.callback(end.set)
        call = channel.stream_unary(f"/{SERVICE_NAME}/ModelInfer").future(never())
        # Of the same connection: when this is answered, the other has come as far.
        assert oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request()).outputs
        asyncio.run_coroutine_threadsafe(server.drain(grace_s=FOREVER_S), loop).result(WAIT_S)
        assert call.code() is not grpc.StatusCode.OK


def test_calls_that_outlast_the_grace_are_cut_off() -> None:
    started = threading.Event()

    async def predict(batch: np.ndarray) -> np.ndarray:
        started.set()
        await asyncio.Event().wait()
        return batch

    with running_server(predict) as (address, server, loop):
        call = stub(address).ModelInfer.future(request())
        assert started.wait(WAIT_S)
        asyncio.run_coroutine_threadsafe(server.drain(grace_s=0.1), loop).result(WAIT_S)
        assert call.code() is grpc.StatusCode.UNAVAILABLE


def test_watch_follows_readiness() -> None:
    with running_server(None) as (address, server, loop), grpc.insecure_channel(address) as ch:
        statuses = health_pb2_grpc.HealthStub(ch).Watch(health_pb2.HealthCheckRequest())
        assert next(statuses).status == NOT_SERVING
        asyncio.run_coroutine_threadsafe(server.open(mean_of_each_row), loop).result(WAIT_S)
        assert next(statuses).status == SERVING


def test_server_that_drained_does_not_open_again() -> None:
    health = HealthService([""])
    health.close()
    health.open()
    status = asyncio.run(health.Check(health_pb2.HealthCheckRequest(), None)).status
    assert status == NOT_SERVING


def test_port_belongs_to_one_server(address: str) -> None:
    async def start_second() -> None:
        service = InferenceService(EXAMPLE_MODEL, max_batch_size=1, timeout_s=1.0)
        await GatewayServer(service, 2**20).start("127.0.0.1", int(address.split(":")[1]))

    with pytest.raises(StartError, match=f"cannot listen on {address}: the port is in use"):
        asyncio.run(start_second())
