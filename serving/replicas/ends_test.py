"""Several gateways, ends of either side, and a connection that is full."""

import asyncio
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.core.channel import Computed, ReplicaLostError
from serving.core.errors import Kind, ServingError
from serving.replicas.connecting import connect
from serving.replicas.limits import Limits
from serving.replicas.server import serve
from serving.testing.jobs import WAIT_S, Gate, Results, do, images, job, numbered
from serving.testing.local_replica import local_replica, numpy_model, run, settled

TOKEN = secrets.token_bytes(32)


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


def test_two_gateways_at_once_over_unix_and_tcp(directory: Path) -> None:
    async def gateway(address: str, first: int) -> None:
        channel = await connect(address, TOKEN, lambda: None)
        answers = await asyncio.gather(*(run(channel, job(numbered(first + i))) for i in range(50)))
        values = [float(answer.outputs["logits"][0, 0]) for answer in answers]
        assert values == list(range(first, first + 50))
        channel.close()

    async def test() -> None:
        server = serve(
            numpy_model(), name="r", unix_path=directory / "s", tcp_host="127.0.0.1", token=TOKEN
        )
        unix, tcp = server.addresses
        assert unix == f"unix:{directory}/s"
        assert tcp.startswith("tcp:127.0.0.1:")
        await asyncio.gather(gateway(unix, 0), gateway(tcp, 1000), gateway(unix, 2000))
        await asyncio.to_thread(server.stop, 0)

    do(test)
    assert list(directory.iterdir()) == []  # nothing is left


def test_a_lost_gateway_has_its_waiting_jobs_dropped_and_others_have_not(directory: Path) -> None:
    async def test() -> None:
        gate = Gate()
        server = serve(
            numpy_model(gate), name="r", unix_path=directory / "s", tcp_host=None, token=TOKEN
        )
        one, two = [await connect(server.addresses[0], TOKEN, lambda: None) for _ in range(2)]
        results: Results = []
        one.submit(job(numbered(1)), results.append)
        await gate.begun()
        one.submit(job(numbered(2)), results.append)
        two.submit(job(numbered(3)), results.append)
        await settled(lambda: server.in_flight == 3)
        one.close()
        assert [type(result) for result in results] == [ReplicaLostError, ReplicaLostError]
        await settled(lambda: server.gateways == 1)
        gate.go_on.release(2)
        await settled(lambda: len(results) == 3)
        assert gate.computed == [1, 3]
        two.close()
        await asyncio.to_thread(server.stop, 0)

    do(test)


def test_draining_it_answers_what_it_has_and_then_lets_the_gateway_go() -> None:
    async def test() -> None:
        gate = Gate()
        events: list[str] = []
        async with local_replica(numpy_model(gate), on_lost=lambda: events.append("lost")) as (
            channel,
            server,
        ):
            results: Results = []
            channel.submit(job(numbered(1)), lambda r: (events.append("done"), results.append(r)))  # type: ignore[func-returns-value]
            await gate.begun()
            stopping = asyncio.create_task(asyncio.to_thread(server.stop, WAIT_S))
            await settled(lambda: channel.draining)
            channel.submit(job(numbered(2)), results.append)
            await settled(lambda: len(results) == 1)
            assert isinstance(results[0], ReplicaLostError)
            gate.go_on.release()
            await stopping
            await settled(lambda: channel.lost)
            assert isinstance(results[1], Computed)
            assert events == ["done", "lost"]

    do(test)


def test_at_the_end_of_draining_jobs_end_with_the_replica() -> None:
    async def test() -> None:
        gate = Gate()
        lost: list[bool] = []
        async with local_replica(numpy_model(gate), on_lost=lambda: lost.append(True)) as (
            channel,
            server,
        ):
            results: Results = []
            channel.submit(job(numbered(1)), results.append)
            await gate.begun()
            await asyncio.to_thread(server.stop, 0.01)
            await settled(lambda: bool(lost))
            assert [type(result) for result in results] == [ReplicaLostError]
            gate.go_on.release()

    do(test)


def test_with_a_full_connection_no_more_is_taken() -> None:
    async def test() -> None:
        gate = Gate()
        limits = Limits(max_waiting_jobs=1, max_backlog_bytes=2**20, shared_min_bytes=2**40)
        async with local_replica(numpy_model(gate, max_batch_size=4096), limits=limits) as (
            channel,
            server,
        ):
            results: Results = []
            large = images(4096)  # a megabyte
            submitted = 0
            while not results:
                assert submitted < 10
                channel.submit(job(large), results.append)
                submitted += 1
                await asyncio.sleep(0.01)
            assert isinstance(results[0], ServingError)
            assert results[0].kind is Kind.OVERLOADED
            assert server.in_flight <= 3  # the rest is left in the socket
            gate.go_on.release(submitted - 1)
            await settled(lambda: len(results) == submitted)
            assert all(isinstance(result, Computed) for result in results[1:])

    do(test)


def test_too_large_a_batch_is_told_before_it_is_sent() -> None:
    async def test() -> None:
        limits = Limits(max_payload_bytes=10_000)
        async with local_replica(limits=limits) as (channel, _):
            with pytest.raises(ServingError) as large:
                await run(channel, job(images(64)))
            assert large.value.kind is Kind.TOO_LARGE
            assert "16384 bytes; a replica takes 10000" in large.value.message

    do(test)


def test_whoever_waits_may_fail_without_harm_to_others() -> None:
    async def test() -> None:
        async with local_replica() as (channel, _):
            results: Results = []

            def fails(result: object) -> None:
                raise RuntimeError("a bug of the gateway")

            for on_done in (fails, results.append, fails, results.append):
                channel.submit(job(images(1)), on_done)
            await settled(lambda: channel.in_flight == 0)
            assert len(results) == 2

    do(test)


def test_a_server_tells_how_it_is(directory: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with local_replica(numpy_model(gate)) as (channel, server):
            await settled(lambda: server.gateways == 1)
            assert (server.alive, server.busy_s) == (True, 0)
            channel.submit(job(images(1)), lambda _: None)
            await gate.begun()
            assert server.busy_s > 0
            gate.go_on.release()
            await settled(lambda: server.busy_s == 0)
        assert not server.alive

    do(test)
