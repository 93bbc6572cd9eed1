"""Calls that never arrive and answers that nobody reads end, and hold up no one meanwhile."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from inference import grpc_service_pb2_grpc as oip_grpc

from serving.core.model import ServedModel
from serving.core.signature import TensorSpec
from serving.protocols.over_grpc.options import GrpcOptions
from serving.testing.grpc_server import WAIT_S, infer_request, running_grpc, wait_for
from serving.testing.rude_client import INFER, rude_client
from serving.testing.served_models import DIGITS

MAX_SLOW = 4
LARGE = 3 * 2**20

# Answers with far more than any window of HTTP/2 holds by itself.
LOUD = ServedModel(
    name="digits",
    version="1",
    platform="",
    directory=DIGITS.directory,
    digest="",
    inputs=DIGITS.inputs,
    outputs=(TensorSpec("logits", "UINT8", (-1, LARGE)),),
)


def loud(inputs: object) -> dict[str, np.ndarray]:
    return {"logits": np.ones((1, LARGE), np.uint8)}


def _stub(channel: grpc.Channel) -> oip_grpc.GRPCInferenceServiceStub:
    return oip_grpc.GRPCInferenceServiceStub(channel)


def never(end: threading.Event) -> Iterator[bytes]:
    end.wait()
    yield b""


def test_slow_calls_are_few_and_hold_up_no_one() -> None:
    end = threading.Event()
    options = GrpcOptions(max_slow_calls=MAX_SLOW, timeout_s=3600.0)
    with running_grpc(options=options) as running, ExitStack() as stack:
        stack.callback(end.set)
        channels = [stack.enter_context(running.channel()) for _ in range(5)]
        slow = [ch.stream_unary(INFER).future(never(end)) for ch in channels for _ in range(10)]
        wait_for(lambda: sum(call.done() for call in slow) == len(slow) - MAX_SLOW)
        refused = [call for call in slow if call.done()]
        assert {call.code() for call in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert {call.details() for call in refused} == {
            "4 requests are arriving slowly; try again later"
        }
        assert {dict(call.trailing_metadata())["grpc-retry-pushback-ms"] for call in refused} == {
            "1000"
        }
        with running.stub() as stub:
            answers = [stub.ModelInfer.future(infer_request()) for _ in range(100)]
            assert all(answer.result(WAIT_S).outputs for answer in answers)
        # One that goes away makes room for one.
        kept = [call for call in slow if not call.done()]
        assert len(kept) == MAX_SLOW
        kept[0].cancel()
        late = channels[0].stream_unary(INFER).future(never(end))
        another = channels[1].stream_unary(INFER).future(never(end))
        wait_for(lambda: late.done() or another.done())
        assert not (late.done() and another.done())


def test_no_call_may_be_slow_for_ever() -> None:
    end = threading.Event()
    options = GrpcOptions(max_slow_calls=MAX_SLOW, timeout_s=1.0)
    with running_grpc(options=options) as running, running.channel() as channel:
        call = channel.stream_unary(INFER).future(never(end))
        with pytest.raises(grpc.RpcError) as error:
            call.result(WAIT_S)
        end.set()
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert error.value.details() == "the request did not arrive within 1 s"


@pytest.mark.parametrize("part", [3, 5, 60_000])
def test_half_a_request_is_let_go(part: int) -> None:
    with (
        running_grpc(options=GrpcOptions(timeout_s=1.0)) as running,
        rude_client(running.address) as client,
    ):
        client.begin_call()
        client.send(bytes(1_000_000), part=part)
        assert client.read_until_ended() == "call"


def test_an_answer_that_has_no_room_is_let_go_with_its_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # The client reads what comes and answers pings: it is not silent.
    with (
        running_grpc([(LOUD, loud)], options=GrpcOptions(read_s=1.0)) as running,
        rude_client(running.address, window=0) as client,
    ):
        client.begin_call()
        client.send(infer_request().SerializeToString())
        wait_for(lambda: running.local.recorder.outcomes)
        assert client.read_until_ended() == "connection"
        running.run(running.server.none_running())
    assert not caplog.records  # gRPC's own would be a traceback


def test_a_stream_that_nobody_reads_is_let_go_with_its_connection_and_no_other() -> None:
    with (
        running_grpc([(LOUD, loud)], options=GrpcOptions(read_s=1.0)) as running,
        running.channel() as channel,
        running.channel() as another,
    ):
        states: list[grpc.ChannelConnectivity] = []
        another.subscribe(states.append, try_to_connect=True)
        grpc.channel_ready_future(another).result(WAIT_S)
        unread = _stub(channel).ModelStreamInfer(iter([infer_request()] * 40))
        ended = threading.Event()
        unread.add_callback(ended.set)
        assert ended.wait(WAIT_S)
        assert unread.code() is grpc.StatusCode.UNAVAILABLE
        running.run(running.server.none_running())
        # Not all were computed: more than a few are not read while the first are not sent.
        assert len(running.local.recorder.outcomes) < 40
        (answer,) = _stub(another).ModelStreamInfer(iter([infer_request()]))
        assert len(answer.infer_response.raw_output_contents[0]) == LARGE
        assert states.count(grpc.ChannelConnectivity.READY) == 1


def test_a_client_that_reads_nothing_is_let_go() -> None:
    options = GrpcOptions(keepalive_s=1.0, keepalive_timeout_s=1.0)
    with (
        running_grpc([(LOUD, loud)], options=options) as running,
        rude_client(running.address, window=2**31 - 1) as client,
    ):
        client.begin_call()
        client.send(infer_request().SerializeToString())
        wait_for(lambda: running.local.recorder.outcomes)
        running.run(running.server.none_running())


@pytest.mark.parametrize("start", [b"", b"PRI * HTTP/2.0\r\n"], ids=["nothing", "half a preface"])
def test_a_connection_that_says_nothing_is_closed(start: bytes) -> None:
    with running_grpc(options=GrpcOptions(handshake_s=0.5)) as running:
        host, port = running.address.split(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as connection:
            connection.sendall(start)
            while connection.recv(4096):
                pass


def test_idle_connections_stay() -> None:
    options = GrpcOptions(keepalive_s=0.2, keepalive_timeout_s=WAIT_S)
    with running_grpc(options=options) as running, ExitStack() as stack:
        channels = [stack.enter_context(running.channel()) for _ in range(8)]
        states: list[list[grpc.ChannelConnectivity]] = [[] for _ in channels]
        for channel, seen in zip(channels, states, strict=True):
            channel.subscribe(seen.append, try_to_connect=True)
            grpc.channel_ready_future(channel).result(WAIT_S)
        threading.Event().wait(2.0)  # ten times what makes a connection silent
        ready = grpc.ChannelConnectivity.READY
        assert all(seen[-1] is ready and seen.count(ready) == 1 for seen in states)
