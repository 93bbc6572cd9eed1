"""The server over real connections: its health, whom it lets in, and how it drains."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc

from serving import server as gateway_server
from serving.errors import StartError
from serving.example import EXAMPLE_MODEL, WAIT_S, mean_of_each_row, request, running_server, stub
from serving.health import HealthService
from serving.server import SERVICE_NAME, GatewayServer
from serving.service import InferenceService

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

# A grace period that no test outlives.
FOREVER_S = 3600.0


@pytest.fixture
def address() -> Iterator[str]:
    with running_server(mean_of_each_row) as (address, _, _):
        yield address


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


def test_idle_watchers_do_not_hold_up_a_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    # A watcher that is slow, for its machine is busy, still reads to the end.
    monkeypatch.setattr(gateway_server, "_LINGER_S", FOREVER_S)
    with running_server(mean_of_each_row) as (address, server, loop), ExitStack() as stack:
        watchers = stack.enter_context(ThreadPoolExecutor(20))
        watches = []
        for _ in range(20):
            ch = stack.enter_context(grpc.insecure_channel(address))
            watches.append(health_pb2_grpc.HealthStub(ch).Watch(health_pb2.HealthCheckRequest()))
            assert next(watches[-1]).status == SERVING
        rest = [watchers.submit(lambda w: [r.status for r in w], watch) for watch in watches]
        asyncio.run_coroutine_threadsafe(server.drain(grace_s=FOREVER_S), loop).result(WAIT_S)
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
