"""Many requests in one call, of either client."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import grpc
import numpy as np
import pytest
from inference import grpc_service_pb2 as oip

from serving.client.aio import AsyncInferenceClient
from serving.client.encoding import encode_request
from serving.client.errors import InferenceError
from serving.client.results import InferResult
from serving.client.sync import InferenceClient
from serving.client.testing.scripted_server import Refuse, Step, scripted_server

Answer = InferResult | InferenceError


def answer(number: int) -> oip.ModelStreamInferResponse:
    reply = oip.ModelStreamInferResponse()
    reply.infer_response.id = str(number)
    tensor = reply.infer_response.outputs.add(name="y", datatype="INT32", shape=[1])
    tensor.contents.int_contents.append(number)
    return reply


def failure(number: int) -> oip.ModelStreamInferResponse:
    reply = oip.ModelStreamInferResponse(error_message=f"cannot {number}")
    reply.infer_response.id = str(number)
    return reply


def requests(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield encode_request("m", {"x": np.array([number])}, request_id=str(number))


def by_threads(address: str, source: Any, **options: Any) -> Iterator[Answer]:
    with InferenceClient(address) as client:
        yield from client.stream(source, **options)


def by_asyncio(address: str, source: Any, **options: Any) -> Iterator[Answer]:
    """One answer after the other, by an event loop that runs only meanwhile."""
    with asyncio.Runner() as runner:
        client = AsyncInferenceClient(address)
        answers = client.stream(source, **options)
        try:
            while True:
                yield runner.run(anext(answers))
        except StopAsyncIteration:
            pass
        finally:
            runner.run(answers.aclose())
            runner.run(client.close())


both = pytest.mark.parametrize("stream", [by_threads, by_asyncio])


@both
def test_each_request_is_answered(stream: Any) -> None:
    script: list[Step] = [answer(0), failure(1), answer(2)]
    with scripted_server({"ModelStreamInfer": script}) as server:
        first, second, third = stream(server.address, requests(3))
        received = server.received["ModelStreamInfer"]
    assert [oip.ModelInferRequest.FromString(r.request).id for r in received] == ["0", "1", "2"]
    assert (first.id, first["y"].tolist()) == ("0", [0])
    assert (third.id, third["y"].tolist()) == ("2", [2])
    assert isinstance(second, InferenceError)
    assert (str(second), second.request_id, second.code) == (
        "cannot 1",
        "1",
        grpc.StatusCode.UNKNOWN,
    )


@both
def test_no_requests_have_no_answers(stream: Any) -> None:
    with scripted_server({"ModelStreamInfer": [answer(0)]}) as server:
        assert list(stream(server.address, [])) == []


def test_an_iterator_may_wait_for_answers() -> None:
    answered = threading.Semaphore(1)
    seen = []

    def source() -> Iterator[bytes]:
        for request in requests(3):
            answered.acquire()
            yield request

    with scripted_server({"ModelStreamInfer": [answer(0), answer(1), answer(2)]}) as server:
        for result in by_threads(server.address, source()):
            assert isinstance(result, InferResult)
            seen.append(result.id)
            answered.release()
    assert seen == ["0", "1", "2"]


def test_an_asynchronous_iterator_may_wait_for_answers() -> None:
    async def run(address: str) -> list[str]:
        answered = asyncio.Semaphore(1)
        seen = []

        async def source() -> AsyncIterator[bytes]:
            for request in requests(3):
                await answered.acquire()
                yield request

        async with AsyncInferenceClient(address) as client:
            async for result in client.stream(source()):
                assert isinstance(result, InferResult)
                seen.append(result.id)
                answered.release()
        return seen

    with scripted_server({"ModelStreamInfer": [answer(0), answer(1), answer(2)]}) as server:
        assert asyncio.run(run(server.address)) == ["0", "1", "2"]


@both
def test_a_stream_that_fails_says_why_and_is_not_tried_again(stream: Any) -> None:
    script: list[Step] = [answer(0), Refuse(grpc.StatusCode.UNAVAILABLE, pushback_ms=["1"])]
    with scripted_server({"ModelStreamInfer": script}) as server:
        answers = stream(server.address, requests(2))
        assert next(answers).id == "0"
        with pytest.raises(InferenceError, match="not now") as error:
            next(answers)
        assert len(server.received["ModelStreamInfer"]) == 2
    assert error.value.code is grpc.StatusCode.UNAVAILABLE


@both
def test_a_stream_that_ends_while_requests_are_written_fails(stream: Any) -> None:
    """Where gRPC's own writing hides the status, the error says so."""
    script: list[Step] = [Refuse(grpc.StatusCode.UNAVAILABLE)]
    with (
        scripted_server({"ModelStreamInfer": script}) as server,
        pytest.raises(InferenceError, match="not now|has lost the reason") as error,
    ):
        list(stream(server.address, (r for _ in itertools.count() for r in requests(1))))
    assert error.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN)


@both
def test_a_server_without_streams_says_so(stream: Any) -> None:
    with scripted_server({}) as server, pytest.raises(InferenceError) as error:
        list(stream(server.address, requests(1)))
    assert error.value.code is grpc.StatusCode.UNIMPLEMENTED


@both
def test_a_stream_has_a_deadline(stream: Any) -> None:
    with scripted_server({"ModelStreamInfer": [answer(0)]}) as server:
        list(stream(server.address, requests(1), timeout_s=7.0))
        (received,) = server.received["ModelStreamInfer"]
    assert 0 < (received.remaining_s or 0.0) <= 7.1


@both
def test_an_error_of_the_callers_own_iterator_is_raised_after_its_answers(
    stream: Any, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def source() -> Iterator[bytes]:
        yield from requests(2)
        raise LookupError("no third")

    with scripted_server({"ModelStreamInfer": [answer(0), answer(1)]}) as server:
        answers = stream(server.address, source())
        assert [next(answers).id, next(answers).id] == ["0", "1"]
        with pytest.raises(LookupError, match="no third"):
            next(answers)
    assert "Traceback" not in capfd.readouterr().err
    assert not caplog.records


@both
def test_answers_that_are_not_read_end_the_stream(stream: Any) -> None:
    with scripted_server({"ModelStreamInfer": [answer(0)]}) as server:
        answers = stream(server.address, (r for _ in itertools.count() for r in requests(1)))
        assert next(answers).id == "0"
        answers.close()  # which would wait for ever if the stream went on


def test_leaving_an_asynchronous_stream_keeps_the_client() -> None:
    async def run(address: str) -> None:
        async with AsyncInferenceClient(address) as client:
            for _ in range(3):
                async with aclosing(client.stream(requests(100))) as answers:
                    assert isinstance(await anext(answers), InferResult)

    with scripted_server({"ModelStreamInfer": [answer(0)]}) as server:
        asyncio.run(run(server.address))


@both
@pytest.mark.parametrize("version", ["", "v1"])
def test_answers_may_come_without_the_message_around_them(stream: Any, version: str) -> None:
    """As MLServer 1.7 sends them: the model's name stands where Triton has the error."""
    bare = answer(3).infer_response
    bare.model_name, bare.model_version = "m", version
    with scripted_server({"ModelStreamInfer": [bare]}) as server:
        (result,) = stream(server.address, requests(1))
    assert (result.model, result.version, result["y"].tolist()) == ("m", version, [3])


@both
def test_what_is_not_the_protocol_is_named(stream: Any) -> None:
    broken = answer(0)
    broken.infer_response.outputs[0].shape[:] = [7]
    for step in (b"\xff", broken):
        with (
            scripted_server({"ModelStreamInfer": [step]}) as server,
            pytest.raises(InferenceError, match="the reply breaks the protocol") as error,
        ):
            list(stream(server.address, requests(1)))
        assert error.value.code is grpc.StatusCode.INTERNAL
