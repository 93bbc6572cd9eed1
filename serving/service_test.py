"""The servicer over a real gRPC connection, with a function in place of Ray."""

import asyncio
import re
import threading
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from inference import grpc_service_pb2 as oip

from serving.errors import OverloadedError, UnavailableError
from serving.example import (
    WAIT_S,
    example_images,
    mean_of_each_row,
    request,
    running_server,
    stub,
)
from serving.server import SERVICE_NAME
from serving.service import Predict


def raising(error: Exception) -> Predict:
    async def predict(batch: np.ndarray) -> np.ndarray:
        raise error

    return predict


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
    timeout_s = 0.1
    with running_server(slow.predict) as (address, _, _):
        while not slow.started.is_set():  # a machine may be too busy to begin within a deadline
            timeout_s *= 2
            with pytest.raises(grpc.RpcError) as error:
                stub(address).ModelInfer(request(), timeout=timeout_s)
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
