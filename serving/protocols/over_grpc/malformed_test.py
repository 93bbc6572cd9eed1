"""Malformed requests get their status, and are told which tensor is wrong and what is expected.

They are generated from a seed. After each, a good request still gets the right answer.
"""

import random
from collections.abc import Callable, Iterator
from functools import partial

import grpc
import numpy as np
import pytest
from inference import grpc_service_pb2 as oip

from serving.protocols.over_grpc import malformed_tensors, malformed_words
from serving.protocols.over_grpc.malformed import Malformed, as_protobuf_reads
from serving.testing.grpc_server import (
    RunningGrpc,
    example_images,
    infer_request,
    running_grpc,
)
from serving.testing.rude_client import INFER

SEED = 18


def cases() -> Iterator[tuple[str, Malformed]]:
    for make, number in (*malformed_tensors.KINDS, *malformed_words.KINDS):
        draw = random.Random(f"{SEED} {make.__name__}")
        for index in range(number):
            yield f"{make.__name__}-{index}", make(draw)


CASES = dict(cases())


@pytest.fixture(scope="module")
def running() -> Iterator[RunningGrpc]:
    with running_grpc() as running:
        yield running


@pytest.fixture(scope="module")
def infer(running: RunningGrpc) -> Iterator[Callable[[bytes], bytes]]:
    """Sends bytes as a request, and returns those of the answer."""
    with running.channel() as channel:
        yield partial(channel.unary_unary(INFER), timeout=60)


def check_a_good_request(infer: Callable[[bytes], bytes]) -> None:
    images = example_images(2)
    response = oip.ModelInferResponse.FromString(infer(infer_request(images).SerializeToString()))
    logits = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(2, 10)
    expected = images.mean(axis=(1, 2, 3))[:, np.newaxis] + np.arange(10)
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


def test_there_are_enough() -> None:
    assert len(CASES) >= 150
    assert len({case.data for case in CASES.values()}) >= 150


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_malformed_request_is_refused(
    infer: Callable[[bytes], bytes], case: Malformed, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(grpc.RpcError) as error:
        infer(case.data)
    assert error.value.code() is case.code
    assert error.value.details().startswith(case.message)
    assert "\n" not in error.value.details()
    assert not caplog.records
    check_a_good_request(infer)


def test_a_stream_says_the_same(running: RunningGrpc) -> None:
    readable = [case for case in CASES.values() if as_protobuf_reads(case.data) is not None]
    with running.stub() as stub:
        responses = stub.ModelStreamInfer(
            oip.ModelInferRequest.FromString(case.data) for case in readable
        )
        for case, response in zip(readable, responses, strict=True):
            assert response.error_message.startswith(case.message)
    assert len(readable) >= 100


def test_damaged_requests_are_refused_or_mean_what_they_say(
    infer: Callable[[bytes], bytes],
) -> None:
    draw = random.Random(SEED)
    whole = infer_request().SerializeToString()
    answered = 0
    codes = set()
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        read = as_protobuf_reads(bytes(damaged))
        try:
            response = oip.ModelInferResponse.FromString(infer(bytes(damaged)))
        except grpc.RpcError as error:
            codes.add(error.code())
            continue
        answered += 1
        assert read is not None
        image = np.frombuffer(read.raw_input_contents[0], "<f4").astype(np.float64)
        logits = np.frombuffer(response.raw_output_contents[0], "<f4")
        np.testing.assert_allclose(logits, image.mean() + np.arange(10), rtol=1e-5, atol=1e-30)
    assert codes <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    assert answered > 30
    check_a_good_request(infer)
