"""Both clients against a real server: answers, deadlines, retries, what is not the protocol."""

import pickle
import socket
from collections.abc import Callable
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
from inference import grpc_service_pb2 as oip

from serving.client.connection import Connection
from serving.client.errors import InferenceError
from serving.client.retries import RetryPolicy
from serving.client.testing.both_clients import CLIENTS, Connect, FakeTime
from serving.client.testing.scripted_server import Hold, Refuse, Step, scripted_server

pytestmark = pytest.mark.parametrize("connect", CLIENTS)

X = {"x": np.zeros((1, 2), np.float32)}
LIVE = oip.ServerLiveResponse(live=True)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def answer(**fields: Any) -> oip.ModelInferResponse:
    """A typed answer of one output, y [1, 3] FP32."""
    reply = oip.ModelInferResponse(model_name="model", model_version="7", **fields)
    tensor = reply.outputs.add(name="y", datatype="FP32", shape=[1, 3])
    tensor.contents.fp32_contents.extend([0.5, 1.0, -2.0])
    return reply


def error_of(call: Callable[[], object]) -> InferenceError:
    with pytest.raises(InferenceError) as error:
        call()
    return error.value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refusals(code: grpc.StatusCode, count: int, *pushback_ms: str) -> list[Step]:
    return [Refuse(code, pushback_ms=pushback_ms)] * count


def test_states_and_metadata(connect: Connect) -> None:
    scripts = {
        "ServerLive": [LIVE],
        "ServerReady": [oip.ServerReadyResponse(ready=True)],
        "ModelReady": [oip.ModelReadyResponse(ready=False)],
        "ServerMetadata": [oip.ServerMetadataResponse(name="somebody's", extensions=["e"])],
        "ModelMetadata": [oip.ModelMetadataResponse(name="m", versions=["1", "2"])],
        "RepositoryIndex": [oip.RepositoryIndexResponse(models=[{"name": "m", "state": "READY"}])],
    }
    with scripted_server(scripts) as server, connect(server.address) as client:
        assert client.live() is True
        assert client.ready() is True
        assert client.ready("m", "2") is False
        assert client.server_metadata().extensions == ["e"]
        assert client.model_metadata("m", "1").versions == ["1", "2"]
        (model,) = client.repository_index(ready=True)
        assert (model.name, model.state) == ("m", "READY")
        index = oip.RepositoryIndexRequest.FromString(server.received["RepositoryIndex"][0].request)
        assert index.ready
        ready = oip.ModelReadyRequest.FromString(server.received["ModelReady"][0].request)
        assert (ready.name, ready.version) == ("m", "2")
        asked = oip.ModelMetadataRequest.FromString(server.received["ModelMetadata"][0].request)
        assert (asked.name, asked.version) == ("m", "1")


def test_a_result_has_all_that_the_server_said(connect: Connect) -> None:
    reply = answer(id="42")
    reply.parameters["cached"].bool_param = True
    reply.parameters["note"].string_param = "n"
    reply.parameters["nothing"].SetInParent()
    with scripted_server({"ModelInfer": [reply]}) as server, connect(server.address) as client:
        result = client.infer("model", X, request_id="42")
    assert result["y"].tolist() == [[0.5, 1.0, -2.0]]
    assert result["y"].dtype == np.float32
    assert list(result.outputs) == ["y"]
    assert (result.model, result.version, result.id, result.attempts) == ("model", "7", "42", 1)
    assert result.parameters == {"cached": True, "note": "n", "nothing": ""}
    with pytest.raises(KeyError, match="no output 'z'; the answer has 'y'"):
        result["z"]


def test_a_request_has_all_that_the_caller_said(connect: Connect) -> None:
    texts = np.array([[b"a", "\u00e9"]], object)
    halves = np.array([[1.5]], ml_dtypes.bfloat16)
    with scripted_server({"ModelInfer": [answer()]}) as server:
        with connect(server.address, metadata=[("a", "client"), ("c-bin", b"\0")]) as client:
            client.infer(
                "model",
                {"texts": texts, "halves": halves},
                version="7",
                outputs=["y"],
                request_id="id",
                priority=2,
                parameters={"timeout": 5},
                metadata=[("b", "call")],
            )
        (received,) = server.received["ModelInfer"]
    request = oip.ModelInferRequest.FromString(received.request)
    assert (request.model_name, request.model_version, request.id) == ("model", "7", "id")
    assert [(t.name, t.datatype) for t in request.inputs] == [
        ("texts", "BYTES"),
        ("halves", "BF16"),
    ]
    assert list(request.raw_input_contents) == [b"\1\0\0\0a\2\0\0\0\xc3\xa9", b"\xc0\x3f"]
    assert [output.name for output in request.outputs] == ["y"]
    assert request.parameters["priority"].uint64_param == 2
    assert request.parameters["timeout"].int64_param == 5
    sent = {"a": "client", "b": "call", "c-bin": b"\0"}
    assert received.metadata.items() >= sent.items()


def test_an_output_that_is_missing_is_no_answer(connect: Connect) -> None:
    with scripted_server({"ModelInfer": [answer()]}) as server, connect(server.address) as client:
        error = error_of(lambda: client.infer("model", X, outputs=["y", "z"]))
        assert "output 'z' was asked for and is missing" in str(error)
    assert error.code is grpc.StatusCode.INTERNAL


def test_a_reply_that_breaks_the_protocol_is_named(connect: Connect) -> None:
    reply = answer()
    reply.outputs[0].shape[:] = [1, 4]
    with scripted_server({"ModelInfer": [reply]}) as server, connect(server.address) as client:
        error = error_of(lambda: client.infer("model", X))
    message = "the reply breaks the protocol: output 'y' has 3 elements; expected 4 for its shape"
    assert str(error) == f"{server.address}: {message}"
    assert error.code is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("content", [b"\xff", b"\x0a\x05abc", b"no message of the protocol"])
def test_bytes_that_are_no_message_are_named(
    connect: Connect, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    scripts: dict[str, list[Step]] = {"ModelInfer": [content], "ServerLive": [content]}
    with scripted_server(scripts) as server, connect(server.address) as client:
        for call in (lambda: client.infer("model", X), client.live):
            error = error_of(call)
            assert "breaks the protocol: it is no " in str(error)
            assert error.code is grpc.StatusCode.INTERNAL
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("code", [UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_what_was_not_processed_is_asked_again(connect: Connect, code: grpc.StatusCode) -> None:
    time = FakeTime()
    script = [*refusals(code, 3), answer()]
    with scripted_server({"ModelInfer": script}) as server:
        with connect(server.address, time, draw=lambda: 0.5) as client:
            result = client.infer("model", X)
        requests = [received.request for received in server.received["ModelInfer"]]
    assert result.attempts == 4
    assert time.waits_s == pytest.approx([0.05, 0.1, 0.2])
    assert len(requests) == 4
    assert len(set(requests)) == 1


def test_a_server_that_goes_on_refusing_is_left_alone(connect: Connect) -> None:
    time = FakeTime()
    script = refusals(UNAVAILABLE, 1)
    with scripted_server({"ModelInfer": script}) as server, connect(server.address, time) as client:
        error = error_of(lambda: client.infer("model", X))
        assert len(server.received["ModelInfer"]) == 5
    expected = f"{server.address}: not now (UNAVAILABLE, asked 5 times)"
    assert (str(error), error.attempts) == (expected, 5)
    assert error.code is UNAVAILABLE
    assert not error.connection_lost


def test_grpcs_own_retries_do_not_multiply_ours(connect: Connect) -> None:
    """A service config, as a name server may have one, asks for five attempts of each attempt."""
    script = refusals(UNAVAILABLE, 1)
    with scripted_server({"ModelInfer": script}) as server:
        with connect(server.address, FakeTime(), retry=RetryPolicy(max_attempts=2)) as client:
            error_of(lambda: client.infer("model", X))
        assert len(server.received["ModelInfer"]) == 2
    options = dict(Connection().channel_options())
    assert options["grpc.enable_retries"] == 0
    assert options["grpc.service_config_disable_resolution"] == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND])
def test_other_failures_are_not_asked_again(connect: Connect, code: grpc.StatusCode) -> None:
    with scripted_server({"ModelInfer": refusals(code, 1)}) as server:
        with connect(server.address, FakeTime()) as client:
            error = error_of(lambda: client.infer("model", X))
        assert len(server.received["ModelInfer"]) == 1
    assert (error.code, error.attempts) == (code, 1)
    # What the caller did wrong has nothing to do with the address.
    where = "" if code is grpc.StatusCode.NOT_FOUND else f"{server.address}: "
    assert str(error) == f"{where}not now ({code.name})"


def test_pushback_is_waited_for(connect: Connect) -> None:
    time = FakeTime()
    script = [*refusals(UNAVAILABLE, 1, "1500"), *refusals(UNAVAILABLE, 1, "0"), answer()]
    with (
        scripted_server({"ModelInfer": script}) as server,
        connect(server.address, time, draw=lambda: 0.5) as client,
    ):
        assert client.infer("model", X).attempts == 3
    assert time.waits_s == pytest.approx([1.5 + 0.05, 0.0 + 0.1])


@pytest.mark.parametrize("pushback", [["-1"], ["soon"]])
def test_never_is_never(connect: Connect, pushback: list[str]) -> None:
    script = refusals(grpc.StatusCode.RESOURCE_EXHAUSTED, 1, *pushback)
    with scripted_server({"ModelInfer": script}) as server:
        with connect(server.address, FakeTime()) as client:
            error = error_of(lambda: client.infer("model", X))
        assert len(server.received["ModelInfer"]) == 1
    assert error.pushback_s == float("inf")


def test_a_call_is_not_repeated_beyond_its_deadline(connect: Connect) -> None:
    time = FakeTime()
    script = refusals(UNAVAILABLE, 1, "2000")
    with scripted_server({"ModelInfer": script}) as server, connect(server.address, time) as client:
        error = error_of(lambda: client.infer("model", X, timeout_s=5.0))
        # After 2 s and 4 s; a third wait of 2 s would end at 6 s.
        assert len(server.received["ModelInfer"]) == 3
        remaining = [received.remaining_s or 0.0 for received in server.received["ModelInfer"]]
    assert len(time.waits_s) == 2
    assert error.code is UNAVAILABLE
    # The server is told what is left, and never more.
    for left_s, most_s in zip(remaining, [5.0, 3.0, 1.0], strict=True):
        assert 0 < left_s <= most_s + 0.1


def test_a_wait_that_takes_too_long_ends_at_the_deadline(connect: Connect) -> None:
    time = FakeTime()
    time.oversleep_s = 10.0
    script = refusals(UNAVAILABLE, 1)
    with scripted_server({"ModelInfer": script}) as server, connect(server.address, time) as client:
        error = error_of(lambda: client.infer("model", X, timeout_s=5.0))
        assert len(server.received["ModelInfer"]) == 1
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_budget_is_the_clients_and_not_the_calls(connect: Connect) -> None:
    script = refusals(UNAVAILABLE, 1)
    retry = RetryPolicy(budget_tokens=10.0)
    with scripted_server({"ModelInfer": script}) as server:
        with connect(server.address, FakeTime(), retry=retry) as client:
            for _ in range(20):
                error_of(lambda: client.infer("model", X))
        # Ten tokens, of which four can be spent on retries.
        assert len(server.received["ModelInfer"]) == 20 + 4


@pytest.mark.parametrize(("given_s", "most_s"), [(None, 9.0), (3.0, 3.0)])
def test_every_call_has_a_deadline(connect: Connect, given_s: float | None, most_s: float) -> None:
    scripts = {
        "ServerLive": [LIVE],
        "ServerReady": [oip.ServerReadyResponse()],
        "ModelReady": [oip.ModelReadyResponse()],
        "ServerMetadata": [oip.ServerMetadataResponse()],
        "ModelMetadata": [oip.ModelMetadataResponse()],
        "ModelInfer": [answer()],
        "RepositoryIndex": [oip.RepositoryIndexResponse()],
    }
    with scripted_server(scripts) as server:
        with connect(server.address, timeout_s=9.0) as client:
            client.live(timeout_s=given_s)
            client.ready(timeout_s=given_s)
            client.ready("m", timeout_s=given_s)
            client.server_metadata(timeout_s=given_s)
            client.model_metadata("m", timeout_s=given_s)
            client.infer("m", X, timeout_s=given_s)
            client.repository_index(timeout_s=given_s)
        assert server.received.keys() == scripts.keys()
        for calls in server.received.values():
            assert 0 < (calls[0].remaining_s or 0.0) <= most_s + 0.1


def test_a_server_that_does_not_answer_in_time(connect: Connect) -> None:
    with (
        scripted_server({"ServerLive": [Hold(LIVE)]}) as server,
        connect(server.address) as client,
    ):
        error = error_of(lambda: client.live(timeout_s=0.05))
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert str(error).startswith(f"{server.address}: ")


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf")])
def test_other_timeouts_are_refused(connect: Connect, timeout_s: float) -> None:
    with (
        connect("127.0.0.1:1") as client,
        pytest.raises(ValueError, match="timeout is .* s; expected more than 0"),
    ):
        client.infer("m", X, timeout_s=timeout_s)
    with pytest.raises(ValueError, match="timeout is"), connect("127.0.0.1:1", timeout_s=timeout_s):
        raise AssertionError


def test_other_addresses_are_refused(connect: Connect) -> None:
    with pytest.raises(ValueError, match="expected host:port"), connect("http://127.0.0.1:8001"):
        raise AssertionError


def test_an_absent_server_is_named(connect: Connect) -> None:
    address = f"127.0.0.1:{free_port()}"
    with connect(address, FakeTime()) as client:
        error = error_of(client.live)
        assert f"{address}: " in str(error)
    assert error.code is UNAVAILABLE
    assert not error.connection_lost  # there was none


def test_a_server_that_comes_back_is_found_again(connect: Connect) -> None:
    with connect(f"127.0.0.1:{(port := free_port())}") as client:
        with scripted_server({"ServerLive": [LIVE]}, port=port):
            assert client.live()
        error_of(lambda: client.live(timeout_s=0.5))
        with scripted_server({"ServerLive": [LIVE]}, port=port):
            assert any(_is_live(client) for _ in range(100))


def _is_live(client: Any) -> bool:
    try:
        return client.live()
    except InferenceError:
        return False


def test_proxies_of_the_environment_are_not_used(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    with scripted_server({"ServerLive": [LIVE]}) as server, connect(server.address) as client:
        assert client.live()


def test_a_message_that_is_too_large_is_refused_once(connect: Connect) -> None:
    large = Connection(max_message_bytes=10)
    with scripted_server({"ModelInfer": [answer()]}) as server:
        with connect(server.address, FakeTime(), connection=large) as client:
            error = error_of(lambda: client.infer("model", X))
            assert "larger than max" in str(error)
        assert len(server.received["ModelInfer"]) == 1
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_error_travels_between_processes(connect: Connect) -> None:
    error = InferenceError(UNAVAILABLE, "m", attempts=3, pushback_s=1.0, connection_lost=True)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.__dict__) == ("m", error.__dict__)
