"""The life of the server: who holds up its end, and who does not."""

import asyncio
import itertools
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from inference import grpc_service_pb2_grpc as oip_grpc

from serving.errors import StartError
from serving.protocols.over_grpc import server as grpc_server
from serving.protocols.over_grpc.methods import SERVICE
from serving.protocols.over_grpc.options import GrpcOptions
from serving.protocols.over_grpc.server import GrpcServer
from serving.testing.grpc_server import (
    WAIT_S,
    RunningGrpc,
    infer_request,
    running_grpc,
    wait_for,
)
from serving.testing.held_channels import HeldChannel
from serving.testing.local_engine import LocalEngine
from serving.testing.local_replica import mean_of_each_row
from serving.testing.rude_client import INFER
from serving.testing.served_models import DIGITS

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

# A grace period that no test outlives.
FOREVER_S = 3600.0


@pytest.fixture
def channel() -> HeldChannel:
    """A replica that answers when told."""
    return HeldChannel("replica-1")


@pytest.fixture
def held(channel: HeldChannel) -> Iterator[RunningGrpc]:
    with running_grpc([(DIGITS, channel)], options=GrpcOptions(timeout_s=FOREVER_S)) as running:
        yield running


@pytest.fixture
def running() -> Iterator[RunningGrpc]:
    with running_grpc() as running:
        yield running


def test_running_calls_finish_and_new_ones_are_refused(
    held: RunningGrpc, channel: HeldChannel
) -> None:
    with held.stub() as stub:
        call = stub.ModelInfer.future(infer_request())
        wait_for(lambda: channel.in_flight)
        stopping = held.begin(held.server.stop(FOREVER_S))
        wait_for(lambda: not held.accepts_connections())
        with held.stub() as late, pytest.raises(grpc.RpcError) as error:
            late.ModelInfer(infer_request())
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not stopping.done()
        held.call(lambda: channel.finish(mean_of_each_row))
        assert call.result(WAIT_S).outputs
        stopping.result(WAIT_S)


class Callers:
    """Threads that ask again and again until they are refused.

    Args:
        running: Whom.
        number: How many; each has a connection of its own.
    """

    def __init__(self, running: RunningGrpc, number: int) -> None:
        self.codes: Counter[tuple[str, str]] = Counter()
        self._running = running
        self._threads = [threading.Thread(target=self._ask) for _ in range(number)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Waits until all were refused."""
        for thread in self._threads:
            thread.join(WAIT_S)

    def _ask(self) -> None:
        request = infer_request()
        with self._running.stub() as stub:
            while True:
                try:
                    assert stub.ModelInfer(request).outputs
                    self.codes["OK", ""] += 1
                except grpc.RpcError as error:
                    self.codes[error.code().name, error.details()] += 1
                    return


@pytest.mark.parametrize("repetition", range(3))
def test_stopping_under_load_cancels_nobody(running: RunningGrpc, repetition: int) -> None:
    callers = Callers(running, 16)
    wait_for(lambda: callers.codes["OK", ""] > 200)
    running.run(running.server.stop(FOREVER_S))
    callers.join()
    codes = {code for code, _ in callers.codes}
    assert codes == {"OK", "UNAVAILABLE"}
    ends = Counter(details for code, details in callers.codes.elements() if code != "OK")
    assert sum(ends.values()) == 16
    assert ends["the server is shutting down"]  # it goes on saying so until nobody comes
    answered = [o for o in running.local.recorder.outcomes if o.error is None]
    assert len(answered) == callers.codes["OK", ""]  # no answer was lost on its way


def test_stopping_cancels_none_of_those_that_come_whatever_others_are_told(
    running: RunningGrpc,
) -> None:
    """Calls that wait for no answer of another: some are on their way in any moment."""
    stopped = threading.Event()
    calls = []
    with ExitStack() as stack:
        stubs = [stack.enter_context(running.stub()) for _ in range(4)]
        for stub in stubs:
            assert stub.ModelInfer(infer_request()).outputs

        def ask() -> None:
            for turn in itertools.count():
                calls.append(stubs[turn % len(stubs)].ModelInfer.future(infer_request()))
                if stopped.wait(0.001):
                    return

        with ThreadPoolExecutor() as threads:
            asking = threads.submit(ask)
            wait_for(lambda: len(calls) > 100)
            running.run(running.server.stop(FOREVER_S))
            stopped.set()
            asking.result(WAIT_S)
        wait_for(lambda: all(call.done() for call in calls))
    codes = Counter(call.code().name for call in calls)
    assert codes.keys() == {"OK", "UNAVAILABLE"}
    answered = [o for o in running.local.recorder.outcomes if o.error is None]
    assert len(answered) == codes["OK"] + len(stubs)  # no answer was lost on its way


@pytest.mark.parametrize("service", ["", SERVICE, "digits", "letters"])
def test_watch_ends_when_stopping_begins(
    held: RunningGrpc, channel: HeldChannel, service: str
) -> None:
    with held.channel() as connection:
        watch = health_pb2_grpc.HealthStub(connection).Watch
        statuses = watch(health_pb2.HealthCheckRequest(service=service))
        first = next(statuses).status
        call = oip_grpc.GRPCInferenceServiceStub(connection).ModelInfer.future(infer_request())
        wait_for(lambda: channel.in_flight)
        held.call(held.local.engine.drain)
        # For ever but for the call: what ends the watch is the beginning of the stop.
        stopping = held.begin(held.server.stop(FOREVER_S))
        rest = [response.status for response in statuses]
        assert not stopping.done()
        assert statuses.code() is grpc.StatusCode.OK
        call.cancel()
        stopping.result(WAIT_S)
    assert [first, *rest] == ([UNKNOWN] if service == "letters" else [SERVING, NOT_SERVING])


def test_idle_watchers_do_not_hold_up_a_stop(
    running: RunningGrpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A watcher that is slow, for its machine is busy, still reads to the end.
    monkeypatch.setattr(grpc_server, "_LINGER_S", FOREVER_S)
    with ExitStack() as stack:
        watchers = stack.enter_context(ThreadPoolExecutor(20))
        watches = []
        for _ in range(20):
            connection = stack.enter_context(running.channel())
            watch = health_pb2_grpc.HealthStub(connection).Watch(health_pb2.HealthCheckRequest())
            watches.append(watch)
            assert next(watch).status == SERVING
        running.call(running.local.engine.drain)
        rest = [watchers.submit(lambda w: [r.status for r in w], watch) for watch in watches]
        running.run(running.server.stop(FOREVER_S))
        assert [statuses.result(WAIT_S) for statuses in rest] == [[NOT_SERVING]] * 20


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
def test_connections_that_say_nothing_do_not_hold_up_a_stop(
    running: RunningGrpc, connect: Callable[[str], socket.socket]
) -> None:
    with connect(running.address), running.stub() as stub:
        assert stub.ModelInfer(infer_request()).outputs
        running.run(running.server.stop(FOREVER_S))


def test_a_call_whose_request_never_comes_is_refused_by_a_stop(running: RunningGrpc) -> None:
    end = threading.Event()

    def never() -> Iterator[bytes]:
        end.wait()
        yield b""

    with ExitStack() as stack:
        connection = stack.enter_context(running.channel())
        stack.callback(end.set)
        call = connection.stream_unary(INFER).future(never())
        # Of the same connection: when this is answered, the other has come as far.
        assert oip_grpc.GRPCInferenceServiceStub(connection).ModelInfer(infer_request()).outputs
        running.run(running.server.stop(FOREVER_S))
        with pytest.raises(grpc.RpcError) as error:
            call.result(WAIT_S)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert error.value.details() == "the server is shutting down"
        assert dict(error.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"


def test_calls_that_outlast_the_grace_are_cut_off(held: RunningGrpc, channel: HeldChannel) -> None:
    with held.stub() as stub:
        call = stub.ModelInfer.future(infer_request())
        wait_for(lambda: channel.in_flight)
        held.run(held.server.stop(0.1))
        with pytest.raises(grpc.RpcError):
            call.result(WAIT_S)
    assert channel.cancelled == channel.jobs


def test_stopping_twice_is_stopping_once(running: RunningGrpc) -> None:
    first, second = (running.begin(running.server.stop(FOREVER_S)) for _ in range(2))
    first.result(WAIT_S)
    second.result(WAIT_S)


def test_a_server_that_never_listened_stops() -> None:
    async def stop() -> None:
        await GrpcServer(LocalEngine([]).engine, GrpcOptions()).stop(FOREVER_S)

    asyncio.run(stop())


def test_port_belongs_to_one_server(running: RunningGrpc) -> None:
    async def start_second() -> None:
        server = GrpcServer(LocalEngine([]).engine, GrpcOptions())
        await server.listen("127.0.0.1", int(running.address.split(":")[1]))

    with pytest.raises(StartError, match=f"cannot listen on {running.address}: the port is in use"):
        asyncio.run(start_second())


def test_listens_on_ipv6() -> None:
    async def listen() -> str:
        server = GrpcServer(LocalEngine([]).engine, GrpcOptions())
        address = await server.listen("::1", 0)
        await server.stop(0)
        return address

    assert asyncio.run(listen()).startswith("[::1]:")
