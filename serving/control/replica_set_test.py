"""Which replicas are connected: real servers and sockets, without a Ray."""

import asyncio
import secrets
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from serving.control.announcements import Announcement
from serving.control.replica_set import ReplicaSet
from serving.core.channel import Job, ReplicaLostError
from serving.replicas.server import RunningServer, serve
from serving.testing.local_replica import numpy_model, run
from serving.testing.replica_process import replica_process

TOKEN = secrets.token_bytes(32)
NODE, DIGEST = "this node", numpy_model().digest
JOB = Job({"image": [np.ones((1, 8, 8, 1), np.float32)]}, 1, ["logits"], 60.0)


class Room:
    """A set of replicas, and what it has told."""

    def __init__(self, directory: Path, token: bytes) -> None:
        self.directory, self.token = directory, token
        self.gone: list[str] = []
        self.seen: list[list[str]] = []
        self.servers: list[RunningServer] = []
        self.replicas = ReplicaSet(
            digest=DIGEST,
            node=NODE,
            token=token,
            is_starting=lambda: True,
            why_empty=lambda: "starting",
            gone=self.gone.append,
        )
        self.replicas.subscribe(lambda: self.seen.append(self.names()))

    def names(self) -> list[str]:
        return [channel.name for channel in self.replicas.connected]

    def start(self, name: str, *, unix: bool = True, tcp: bool = False) -> RunningServer:
        server = serve(
            numpy_model(),
            name=name,
            unix_path=self.directory / f"{name}-{len(self.servers)}" if unix else None,
            tcp_host="127.0.0.1" if tcp else None,
            token=self.token,
        )
        self.servers.append(server)
        return server

    def announce(self, name: str, *addresses: str, node: str = NODE) -> None:
        self.replicas.announced({name: Announcement(name, addresses, node, DIGEST)})

    async def until(self, *names: str) -> None:
        await until(lambda: sorted(self.names()) == sorted(names))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  what is waited for tells nobody
            await asyncio.sleep(0.002)


@contextmanager
def room(token: bytes) -> Iterator[Room]:
    # A short path, which the sandbox's own directory for tests is not.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        room = Room(Path(directory) / "replicas", token)
        try:
            yield room
        finally:
            for server in room.servers:
                server.stop(0)


def in_loop(test: Callable[[Room], Awaitable[None]], token: bytes = TOKEN) -> None:
    with room(token) as one:

        async def run_test() -> None:
            try:
                await test(one)
            finally:
                await one.replicas.close()

        asyncio.run(run_test())


def test_replicas_are_connected_to_once_and_answer() -> None:
    async def test(room: Room) -> None:
        for name in ("a", "b"):
            room.announce(name, *room.start(name).addresses)
            room.announce(name, "unix:/this/would/be/another")  # and is not, since it is known
        await room.until("a", "b")
        assert room.replicas.why_empty() == "starting"
        for channel in room.replicas.connected:
            answer = await run(channel, JOB)
            np.testing.assert_array_equal(answer.outputs["logits"], [1 + np.arange(10)])
        assert room.seen in ([["a"], ["a", "b"]], [["b"], ["b", "a"]])

    in_loop(test)


@pytest.mark.parametrize(("node", "kind"), [(NODE, "unix:"), ("another node", "tcp:")])
def test_the_same_machine_is_reached_by_its_socket_and_another_by_tcp(node: str, kind: str) -> None:
    async def test(room: Room) -> None:
        addresses = reversed(room.start("a", tcp=True).addresses)
        room.announce("a", *addresses, node=node)
        await room.until("a")
        (channel,) = room.replicas.connected
        assert channel.address.startswith(kind)  # type: ignore[attr-defined]

    in_loop(test)


def test_one_that_is_killed_is_out_at_once_and_found_gone() -> None:
    async def test(room: Room) -> None:
        name = f"replica-{Path(killed.addresses[0]).parent.name}"
        room.announce(name, *killed.addresses)
        room.announce("b", *room.start("b").addresses)
        await room.until(name, "b")
        first = room.replicas.connected
        killed.process.kill()
        await room.until("b")
        await until(lambda: room.gone == [name])
        assert first != room.replicas.connected  # a new list; whoever has the old one keeps it
        assert name not in room.replicas.known

    with replica_process() as killed:
        in_loop(test, killed.token)


def test_a_job_that_is_lost_says_so_after_the_replica_is_out() -> None:
    async def test(room: Room) -> None:
        room.announce("a", *room.start("a").addresses)
        await room.until("a")
        (channel,) = room.replicas.connected
        room.servers[0].stop(0)
        await room.until()
        with pytest.raises(ReplicaLostError):
            await run(channel, JOB)

    in_loop(test)


def test_a_connection_that_breaks_is_made_again_while_the_replica_lives() -> None:
    async def test(room: Room) -> None:
        room.announce("a", *room.start("a").addresses)
        await room.until("a")
        (before,) = room.replicas.connected
        before._connection.close("as if the network had")  # type: ignore[attr-defined]
        await until(lambda: room.names() == ["a"] and room.replicas.connected[0] is not before)
        assert room.gone == []

    in_loop(test)


def test_one_that_resets_connections_is_tried_until_nobody_listens() -> None:
    """A process that is being killed: its socket is there for a moment, and then it is not."""

    async def test(room: Room) -> None:
        room.directory.mkdir()
        path = room.directory / "dying"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen()
            listening.setblocking(False)
            room.announce("dying", f"unix:{path}")
            for _ in range(2):
                stranger, _ = await asyncio.get_running_loop().sock_accept(listening)
                stranger.close()
            assert room.gone == []
            assert list(room.replicas.known) == ["dying"]
        await until(lambda: room.gone == ["dying"])
        assert room.seen == []

    in_loop(test)


def test_another_replica_or_artifact_at_the_address_is_not_used() -> None:
    async def test(room: Room) -> None:
        room.announce("impostor", *room.start("a").addresses)
        await asyncio.sleep(0.3)  # several attempts
        assert room.names() == []
        assert room.gone == []

    in_loop(test)


def test_one_that_drains_gets_no_more_and_answers_what_it_has() -> None:
    async def test(room: Room) -> None:
        room.announce("a", *room.start("a").addresses)
        room.announce("b", *room.start("b").addresses)
        await room.until("a", "b")
        a = next(channel for channel in room.replicas.connected if channel.name == "a")
        answer = asyncio.create_task(run(a, JOB))
        stopping = asyncio.create_task(asyncio.to_thread(room.servers[0].stop, 60))
        await room.until("b")
        np.testing.assert_array_equal((await answer).outputs["logits"], [1 + np.arange(10)])
        await stopping  # which it does as soon as it has answered
        assert room.gone == []

    in_loop(test)
