"""Calls that end early, closed clients, lost connections, many calls at a time."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from inference import grpc_service_pb2 as oip

from serving.client.aio import AsyncInferenceClient
from serving.client.connection import Connection
from serving.client.errors import InferenceError
from serving.client.retries import RetryPolicy
from serving.client.sync import InferenceClient
from serving.client.testing.both_clients import CLIENTS, Connect
from serving.client.testing.echo_server import echo_server
from serving.client.testing.scripted_server import (
    Hold,
    Refuse,
    ScriptedServer,
    scripted_server,
)

LIVE = oip.ServerLiveResponse(live=True)
WAIT_S = 60.0  # far more than anything takes


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(6000):
        if holds():
            return
        threading.Event().wait(0.01)
    raise AssertionError("timed out")


def asked(server: ScriptedServer) -> list[str]:
    """The connections by which calls came."""
    return [received.peer for received in server.received["ServerLive"]]


@pytest.mark.parametrize("connect", CLIENTS)
def test_many_calls_at_a_time_are_spread_over_connections(connect: Connect) -> None:
    limits = Connection(streams_per_channel=10, max_channels=3)
    with (
        scripted_server({"ServerLive": [Hold(LIVE)]}) as server,
        connect(server.address, connection=limits) as client,
        ThreadPoolExecutor(40) as threads,
    ):
        calls = [threads.submit(client.live) for _ in range(36)]
        wait_until(lambda: server.held == 36)
        peers = asked(server)
        server.let_go()
        assert all(call.result(WAIT_S) for call in calls)
        # One call at a time needs one connection, of those that there are.
        client.live()
        assert asked(server)[-1] in peers
    assert sorted(peers.count(peer) for peer in set(peers)) == [12, 12, 12]


@pytest.mark.parametrize("connect", CLIENTS)
def test_closing_ends_calls_that_wait_and_refuses_others(connect: Connect) -> None:
    with scripted_server({"ServerLive": [Hold(LIVE)]}) as server:
        with connect(server.address) as client, ThreadPoolExecutor(1) as threads:
            call = threads.submit(client.live)
            wait_until(lambda: server.held == 1)
            client.close()
            for ask in (lambda: call.result(WAIT_S), client.live):
                with pytest.raises(InferenceError, match="the client was closed") as error:
                    ask()
                assert error.value.code is grpc.StatusCode.CANCELLED
        wait_until(lambda: server.cancelled == 1)


def test_closing_ends_a_wait_before_a_retry() -> None:
    refuse = Refuse(grpc.StatusCode.UNAVAILABLE, pushback_ms=["3600000"])
    with scripted_server({"ServerLive": [refuse]}) as server:
        client = InferenceClient(server.address, timeout_s=2 * 3600.0)
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(client.live)
            wait_until(lambda: len(server.received["ServerLive"]) == 1)
            client.close()
            with pytest.raises(InferenceError, match="the client was closed"):
                call.result(WAIT_S)


def test_a_cancelled_task_cancels_its_call_on_the_server() -> None:
    async def run(server: ScriptedServer) -> None:
        async with AsyncInferenceClient(server.address) as client:
            task = asyncio.create_task(client.live())
            await asyncio.to_thread(wait_until, lambda: server.held == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(wait_until, lambda: server.cancelled == 1)

    with scripted_server({"ServerLive": [Hold(LIVE)]}) as server:
        asyncio.run(run(server))


SERVER = """
import sys
import time
from inference import grpc_service_pb2 as oip
from serving.client.testing.scripted_server import Hold, scripted_server

with scripted_server({"ServerLive": [Hold(oip.ServerLiveResponse())]}) as server:
    print(server.address, flush=True)
    while not server.held:
        time.sleep(0.01)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("connect", CLIENTS)
def test_a_connection_that_ends_with_the_server_is_lost(
    connect: Connect, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", SERVER]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with (
            ThreadPoolExecutor(1) as threads,
            connect(address, retry=RetryPolicy(max_attempts=1)) as client,
        ):
            call: Future[bool] = threads.submit(client.live)
            assert process.stdout.readline() == "held\n"
            os.kill(process.pid, number)
            with pytest.raises(InferenceError) as error:
                call.result(WAIT_S)
            assert error.value.code is grpc.StatusCode.UNAVAILABLE
            assert error.value.connection_lost, str(error.value)
        process.wait()
        # Who comes then has no connection that could be lost.
        with connect(address, retry=RetryPolicy(max_attempts=1)) as client:
            with pytest.raises(InferenceError) as error:
                client.live()
            assert error.value.code is grpc.StatusCode.UNAVAILABLE
            assert not error.value.connection_lost, str(error.value)


@pytest.mark.parametrize("connect", CLIENTS)
def test_a_connection_that_somebody_between_ends_is_lost(connect: Connect) -> None:
    """A load balancer that goes away, for example."""
    with scripted_server({"ServerLive": [Hold(LIVE)]}) as server, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ends: list[socket.socket] = []

        def forward() -> None:
            host, _, port = server.address.partition(":")
            there = socket.create_connection((host, int(port)))
            here, _ = listener.accept()
            ends.extend((here, there))
            for source, sink in ((here, there), (there, here)):
                threading.Thread(target=pump, args=(source, sink), daemon=True).start()

        def pump(source: socket.socket, sink: socket.socket) -> None:
            try:
                while content := source.recv(65536):
                    sink.sendall(content)
            except OSError:
                pass

        threading.Thread(target=forward, daemon=True).start()
        address = "{}:{}".format(*listener.getsockname())
        with (
            ThreadPoolExecutor(1) as threads,
            connect(address, retry=RetryPolicy(max_attempts=1)) as client,
        ):
            call = threads.submit(client.live)
            wait_until(lambda: server.held == 1)
            for end in ends:
                end.shutdown(socket.SHUT_RDWR)
            with pytest.raises(InferenceError) as error:
                call.result(WAIT_S)
        for end in ends:
            end.close()
    assert error.value.connection_lost, str(error.value)


def test_one_client_serves_many_threads() -> None:
    """Each thread gets the answer to its own request."""
    with echo_server() as address, InferenceClient(address) as client:

        def ask(number: int) -> bool:
            array = np.full((1, 3), number, np.int64)
            result = client.infer("echo", {"x": array}, request_id=str(number))
            return result.id == str(number) and bool((result["x"] == array).all())

        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(ask, range(500)))
