"""Other sides that know the token and send garbage, or share what they must not."""

import asyncio
import os
import secrets
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hpc.serving.v1 import transport_pb2 as wire

from serving.core.channel import ReplicaLostError
from serving.replicas.addresses import listen_unix
from serving.replicas.arena import check_memory, create_memory
from serving.replicas.connecting import connect
from serving.replicas.errors import ConnectError
from serving.replicas.server import RunningServer, serve
from serving.testing.jobs import WAIT_S, Results, do, images, job
from serving.testing.local_replica import mean_of_each_row, numpy_model, run, settled
from serving.testing.peers import Peer, connected, frame, gateway, replica

TOKEN = secrets.token_bytes(32)
IMAGES = images(2)
JOB = job(IMAGES)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        running = serve(
            numpy_model(), name="r", unix_path=Path(directory) / "s", tcp_host=None, token=TOKEN
        )
        yield running
        running.stop(0)


def _run_frame(**changes: object) -> bytes:
    run_ = wire.Run(job=1, outputs=["logits"], timeout_s=WAIT_S)
    run_.inputs.add(name="image", datatype="FP32", shape=IMAGES.shape)
    run_.MergeFrom(wire.Run(**changes))
    return frame(wire.FRAME_KIND_RUN, run_, IMAGES.tobytes())


@pytest.mark.parametrize(
    "stream",
    [
        b"garbage" * 100,
        _run_frame()[:-1] + b"HPCR" * 10,
        frame(wire.FRAME_KIND_RUN, wire.Run(job=1), b"x"),
        frame(wire.FRAME_KIND_RUN, wire.Run(job=1, block=wire.Block(offset=0, size=64))),
        frame(wire.FRAME_KIND_RELEASE, wire.Release(offsets=[0])),
        frame(wire.FRAME_KIND_REPLY, wire.Reply(job=1)),
        frame(wire.FRAME_KIND_GOODBYE, wire.Goodbye()),
        frame(wire.FRAME_KIND_GATEWAY_HELLO, wire.GatewayHello()),
    ],
    ids=str,
)
def test_a_gateway_that_sends_garbage_is_let_go_alone(server: RunningServer, stream: bytes) -> None:
    async def test() -> None:
        channel = await connect(server.addresses[0], TOKEN, lambda: None)
        bad = await gateway(server.addresses[0], TOKEN)
        await bad.send(stream)
        assert await bad.ended()
        bad.close()
        answer = await run(channel, JOB)
        expected = mean_of_each_row({"image": IMAGES})["logits"]
        np.testing.assert_array_equal(answer.outputs["logits"], expected)
        channel.close()

    do(test)


def test_malformed_jobs_never_harm_the_replica(server: RunningServer) -> None:
    """A frame that is right, changed at random places, three hundred times."""
    rng = np.random.default_rng(1)
    good = _run_frame()
    described = len(good) - IMAGES.nbytes

    async def test() -> None:
        channel = await connect(server.addresses[0], TOKEN, lambda: None)
        for _ in range(300):
            changed = bytearray(good)
            for place in rng.integers(0, described, rng.integers(1, 4)):
                changed[place] = rng.integers(256)
            bad = await gateway(server.addresses[0], TOKEN)
            await bad.send(bytes(changed))
            bad.close()
        assert server.alive
        answer = await run(channel, JOB)
        expected = mean_of_each_row({"image": IMAGES})["logits"]
        np.testing.assert_array_equal(answer.outputs["logits"], expected)
        channel.close()
        await settled(lambda: server.gateways == 0 and server.in_flight == 0)

    do(test)


def _descriptors_left() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("case", ["none", "one", "of a file", "smaller", "not announced"])
def test_a_gateway_that_shares_what_it_must_not_is_let_go(server: RunningServer, case: str) -> None:
    size = 2**16

    async def test() -> None:
        file = os.open("/tmp", os.O_RDONLY)
        good, small = create_memory(size), create_memory(size // 2)
        descriptors = {
            "none": [],
            "one": [good],
            "of a file": [good, file],
            "smaller": [good, small],
            "not announced": [good, good],
        }[case]
        await settled(lambda: server.gateways == 0)
        before = _descriptors_left()
        arena_bytes = 0 if case == "not announced" else size
        bad = await gateway(
            server.addresses[0], TOKEN, arena_bytes=arena_bytes, descriptors=descriptors
        )
        assert await bad.ended()
        bad.close()
        await settled(lambda: _descriptors_left() <= before)
        for descriptor in (file, good, small):
            os.close(descriptor)

    do(test)


Play = Callable[[Peer], Coroutine[Any, Any, None]]


def fake_replica(play: Play, **hello: object) -> tuple[Results, list[bool]]:
    """Connects a gateway to a replica that does this once it has been sent two jobs."""
    results: Results = []
    lost: list[bool] = []

    async def test() -> None:
        with tempfile.TemporaryDirectory(dir="/tmp") as directory:
            listening, address = listen_unix(Path(directory) / "s")
            with listening:
                accepting = asyncio.ensure_future(replica(listening, TOKEN, **hello))
                channel = await connect(address, TOKEN, lambda: lost.append(True))
                peer, descriptors = await accepting
                for descriptor in descriptors:
                    check_memory(descriptor, 2**28)
                    os.close(descriptor)
                for _ in range(2):
                    channel.submit(JOB, results.append)
                await play(peer)
                await settled(lambda: bool(lost))
                peer.close()

    do(test)
    return results, lost


def _reply(payload: bytes = b"", job: int = 1, **changes: object) -> bytes:
    reply = wire.Reply(job=job, outcome=wire.OUTCOME_OK)
    reply.outputs.add(name="logits", datatype="FP32", shape=[2, 1])
    reply.MergeFrom(wire.Reply(**changes))
    return frame(wire.FRAME_KIND_REPLY, reply, payload)


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(wire.FRAME_KIND_RUN, wire.Run(job=1)),
        _reply(bytes(8), job=99),
        _reply(bytes(7)),
        _reply(block=wire.Block(offset=0, size=8), payload=b""[:0]) + _reply(bytes(7), job=2),
        _reply(block=wire.Block(offset=2**28, size=8)),
        _reply(block=wire.Block(offset=7, size=8)),
        frame(wire.FRAME_KIND_REPLICA_HELLO, wire.ReplicaHello(name="again")),
    ],
    ids=str,
)
def test_a_replica_that_sends_garbage_is_lost_and_each_job_ends_once(stream: bytes) -> None:
    results, lost = fake_replica(lambda peer: peer.send(stream))
    assert len(results) == 2
    assert sum(isinstance(result, ReplicaLostError) for result in results) >= 1
    assert lost == [True]


def test_malformed_answers_never_harm_the_gateway() -> None:
    rng = np.random.default_rng(2)
    good = _reply(np.float32([[1], [2]]).tobytes(), nonfinite=True, message="m")
    for _ in range(60):
        changed = bytearray(good)
        for place in rng.integers(0, len(good) - 8, rng.integers(1, 4)):
            changed[place] = rng.integers(256)

        async def play(peer: Peer, stream: bytes = bytes(changed)) -> None:
            await peer.send(stream)
            peer.sock.shutdown(1)

        results, lost = fake_replica(play)
        assert len(results) == 2
        assert lost == [True]


@pytest.mark.parametrize(
    ("hello", "message"),
    [
        ({"name": ""}, "a replica '' with batches of"),
        ({"batch_sizes": []}, "a replica 'fake' with batches of"),
        ({"batch_sizes": [4, 4, 2]}, r"batches of \["),
        ({"silence_ms": 3}, "bears a silence of 3 ms"),
    ],
)
def test_a_replica_that_says_nonsense_of_itself_is_not_connected(
    hello: dict[str, object], message: str
) -> None:
    async def test() -> None:
        with tempfile.TemporaryDirectory(dir="/tmp") as directory:
            listening, address = listen_unix(Path(directory) / "s")
            with listening:
                accepting = asyncio.ensure_future(replica(listening, TOKEN, **hello))
                with pytest.raises(ConnectError, match=message):
                    await connect(address, TOKEN, lambda: None)
                accepting.cancel()
                await asyncio.wait([accepting])

    do(test)


def test_a_connection_that_ends_within_a_frame_loses_it(server: RunningServer) -> None:
    async def test() -> None:
        for end in (1, 10, 24, 30, len(_run_frame()) - 1):
            bad = await gateway(server.addresses[0], TOKEN)
            await bad.send(_run_frame()[:end])
            bad.close()
        sock = await connected(server.addresses[0])
        sock.close()
        await settled(lambda: server.gateways == 0)
        assert server.in_flight == 0

    do(test)
