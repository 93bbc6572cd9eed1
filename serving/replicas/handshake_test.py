"""Who does not know the token learns nothing and gets nowhere, on either side."""

import asyncio
import contextlib
import hashlib
import hmac
import secrets
import struct
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from serving.replicas import handshake
from serving.replicas.addresses import listen_unix
from serving.replicas.connecting import connect
from serving.replicas.errors import ConnectError
from serving.replicas.handshake import VERSION
from serving.replicas.server import RunningServer, serve
from serving.testing.local_replica import numpy_model, settled
from serving.testing.peers import Peer, connected

WAIT_S = 60.0  # far more than anything takes

TOKEN = secrets.token_bytes(32)
OPENING_BYTES, PROOF_BYTES = 42, 32

Play = Callable[[Peer], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        running = serve(
            numpy_model(),
            name="r",
            unix_path=Path(directory) / "s",
            tcp_host="127.0.0.1",
            token=TOKEN,
        )
        yield running
        running.stop(0)


def do(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    uvloop.run(asyncio.wait_for(test(), WAIT_S))


def opening(version: int = VERSION) -> bytes:
    return b"HPCAUTH\0" + struct.pack("<H", version) + secrets.token_bytes(32)


def proof(token: bytes, side: bytes, gateway: bytes, replica: bytes) -> bytes:
    """As the module's documentation has it, by the standard library's slower way."""
    key = hmac.new(token, b"hpc.serving.transport.v1", hashlib.sha256).digest()
    return hmac.new(key, side + gateway + replica, hashlib.sha256).digest()


async def read(peer: Peer, size: int = 2**16) -> bytes:
    """Everything that comes until the end, or so many bytes."""
    received, loop = b"", asyncio.get_running_loop()
    while len(received) < size and (more := await loop.sock_recv(peer.sock, size - len(received))):
        received += more
    return received


async def said(peer: Peer, *messages: bytes) -> bytes:
    """What a server says in all to one who says this."""
    for message in messages:
        await peer.send(message)
    return await read(peer)


@pytest.mark.parametrize("way", [0, 1])
def test_both_sides_prove_that_they_know_the_token(server: RunningServer, way: int) -> None:
    async def test() -> None:
        peer = Peer(await connected(server.addresses[way]))
        ours = opening()
        await peer.send(ours)
        theirs = await read(peer, OPENING_BYTES)
        await peer.send(proof(TOKEN, b"gateway", ours, theirs))
        assert await read(peer, PROOF_BYTES) == proof(TOKEN, b"replica", ours, theirs)
        assert (await read(peer, 4)) == b"HPCR"  # and now it says hello
        peer.close()

    do(test)


@pytest.mark.parametrize("way", [0, 1])
def test_a_wrong_token_is_refused_without_a_word_more(server: RunningServer, way: int) -> None:
    async def test() -> None:
        peer = Peer(await connected(server.addresses[way]))
        ours = opening()
        await peer.send(ours)
        theirs = await read(peer, OPENING_BYTES)
        wrong = TOKEN[:-1] + bytes([TOKEN[-1] ^ 1])
        assert await said(peer, proof(wrong, b"gateway", ours, theirs)) == b""
        peer.close()

    do(test)


def test_a_proof_that_was_recorded_proves_nothing_again(server: RunningServer) -> None:
    async def test() -> None:
        ours = opening()
        proofs: list[bytes] = []
        for _ in range(2):
            peer = Peer(await connected(server.addresses[0]))
            await peer.send(ours)
            theirs = await read(peer, OPENING_BYTES)
            proofs.append(proof(TOKEN, b"gateway", ours, theirs))
            answer = await said(peer, proofs[0]) if proofs[1:] else b""
            assert answer == b""
            peer.close()

    do(test)


def test_the_other_sides_proof_sent_back_proves_nothing(server: RunningServer) -> None:
    async def test() -> None:
        peer = Peer(await connected(server.addresses[0]))
        ours = opening()
        await peer.send(ours)
        theirs = await read(peer, OPENING_BYTES)
        assert await said(peer, proof(TOKEN, b"replica", ours, theirs)) == b""
        peer.close()

    do(test)


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(200),
        b"\x16\x03\x01\x02\x00" + bytes(100),
        bytes(5000),
        b"\x80\x04\x95" + bytes(100),  # as a pickle begins
    ],
)
def test_strangers_are_told_nothing(server: RunningServer, stream: bytes) -> None:
    async def test() -> None:
        peer = Peer(await connected(server.addresses[1]))
        # It may be closed with bytes unread, of which TCP tells.
        with contextlib.suppress(ConnectionError):
            assert await said(peer, stream) == b""
        peer.close()

    do(test)


def test_another_version_is_told_which_one_this_is(server: RunningServer) -> None:
    async def test() -> None:
        peer = Peer(await connected(server.addresses[0]))
        told = await said(peer, opening(VERSION + 1))
        assert (len(told), told[8:10]) == (OPENING_BYTES, struct.pack("<H", VERSION))
        peer.close()

    do(test)


def test_who_says_nothing_is_let_go(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_S", 0.05)

    async def test() -> None:
        silent, halfway = [Peer(await connected(server.addresses[0])) for _ in range(2)]
        ours = opening()
        await halfway.send(ours)
        assert await read(silent) == b""
        assert len(await read(halfway)) in (0, OPENING_BYTES)
        silent.close()
        halfway.close()

    do(test)


def test_strangers_leave_room_for_gateways(server: RunningServer) -> None:
    async def test() -> None:
        strangers = [Peer(await connected(server.addresses[1])) for _ in range(100)]
        ended = [asyncio.ensure_future(read(stranger)) for stranger in strangers]
        await settled(lambda: any(end.done() for end in ended))
        assert server.alive
        for stranger, end in zip(strangers, ended, strict=True):
            end.cancel()
            await asyncio.wait([end])
            stranger.close()
        channel = await _patiently(server.addresses[0])
        assert channel == "r"

    async def _patiently(address: str) -> str:
        while True:
            try:
                channel = await connect(address, TOKEN, lambda: None)
            except ConnectError:  # the strangers are not all gone yet
                continue
            channel.close()
            return channel.name

    do(test)


async def refusal(address: str, token: bytes = TOKEN) -> str:
    with pytest.raises(ConnectError) as refused:
        await connect(address, token, lambda: None)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_gateway_is_told_in_one_line_why_it_cannot_connect(server: RunningServer) -> None:
    async def test() -> None:
        address = server.addresses[0]
        wrong = await refusal(address, secrets.token_bytes(32))
        assert wrong == f"{address}: the replica has refused the token"
        assert "No such file" in await refusal(f"{address}-not")
        with pytest.raises(ValueError, match="a token of 8 bytes; expected at least 16"):
            await connect(address, b"x" * 8, lambda: None)
        for none in ("host:80", "tcp:localhost:80", "tcp:127.0.0.1", "tcp:127.0.0.1:0", ""):
            with pytest.raises(ValueError, match="is no replica's address; expected unix:/PATH"):
                await connect(none, TOKEN, lambda: None)

    do(test)


def impostor(play: Play) -> str:
    """Why a gateway does not connect to something that listens where a replica should."""
    messages: list[str] = []

    async def test() -> None:
        with tempfile.TemporaryDirectory(dir="/tmp") as directory:
            listening, address = listen_unix(Path(directory) / "s")
            refused = asyncio.ensure_future(refusal(address))
            sock, _ = await asyncio.get_running_loop().sock_accept(listening)
            sock.setblocking(False)
            await play(Peer(sock))
            messages.append(await refused)
            sock.close()
            listening.close()

    do(test)
    return messages[0].partition(": ")[2]


def test_a_gateway_tells_an_impostor_no_more_than_a_proof() -> None:
    seen: list[bytes] = []

    async def play(peer: Peer) -> None:
        theirs, ours = await read(peer, OPENING_BYTES), opening()
        await peer.send(ours)
        seen.append(await read(peer, PROOF_BYTES))
        await peer.send(proof(secrets.token_bytes(32), b"replica", theirs, ours))
        seen.append(await read(peer))

    assert impostor(play) == "what answers does not know the token"
    assert [len(message) for message in seen] == [PROOF_BYTES, 0]


def test_a_gateway_does_not_take_its_own_proof_back() -> None:
    async def play(peer: Peer) -> None:
        await read(peer, OPENING_BYTES)
        await peer.send(opening())
        await peer.send(await read(peer, PROOF_BYTES))

    assert impostor(play) == "what answers does not know the token"


def test_a_gateway_names_a_replica_of_another_version() -> None:
    async def play(peer: Peer) -> None:
        await peer.send(opening(7))

    assert impostor(play) == f"a replica of protocol version 7; this one is {VERSION}"


def test_a_gateway_names_what_is_no_replica() -> None:
    async def play(peer: Peer) -> None:
        await peer.send(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n" + bytes(20))

    assert impostor(play) == "no replica: it began with b'SSH-2.0-'"
