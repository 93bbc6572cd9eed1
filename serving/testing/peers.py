"""Other sides of a connection that do as a test says, right or wrong."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message
from hpc.serving.v1 import transport_pb2 as wire

from serving.replicas.addresses import parse
from serving.replicas.frames import Buffer, encode_frame
from serving.replicas.handshake import prove_as_gateway, prove_as_replica
from serving.replicas.hello import receive_hello, send_hello

SILENCE_MS = 60_000


class Peer:
    """One side, by hand: sends frames, or whatever bytes, and sees what comes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    async def send(self, stream: bytes) -> None:
        """Sends bytes."""
        await asyncio.get_running_loop().sock_sendall(self.sock, stream)

    async def send_frame(self, kind: int, header: Message, payload: bytes = b"") -> None:
        """Sends a frame."""
        await self.send(frame(kind, header, payload))

    async def ended(self) -> bool:
        """Returns True when the other side has closed the connection."""
        loop = asyncio.get_running_loop()
        try:
            while await loop.sock_recv(self.sock, 2**16):
                pass
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        """Ends the connection."""
        self.sock.close()


def frame(kind: int, header: Message, payload: bytes = b"") -> bytes:
    """A frame as one piece."""
    buffers: list[Buffer] = [payload] if payload else []
    return b"".join(encode_frame(kind, header, buffers, len(payload)))


async def connected(address: str) -> socket.socket:
    """A connection to an address, of which nothing was said."""
    family, place = parse(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, place)
    return sock


async def gateway(
    address: str,
    token: bytes,
    *,
    silence_ms: int = SILENCE_MS,
    arena_bytes: int = 0,
    descriptors: Sequence[int] = (),
) -> Peer:
    """A gateway that knows the token and has said hello."""
    sock = await connected(address)
    await prove_as_gateway(sock, token)
    await receive_hello(sock, wire.FRAME_KIND_REPLICA_HELLO, wire.ReplicaHello)
    hello = wire.GatewayHello(
        silence_ms=silence_ms, max_payload_bytes=2**30, arena_bytes=arena_bytes
    )
    await send_hello(sock, wire.FRAME_KIND_GATEWAY_HELLO, hello, descriptors)
    return Peer(sock)


async def replica(listening: socket.socket, token: bytes, **changes: Any) -> tuple[Peer, list[int]]:
    """A replica that knows the token and has said hello, and descriptors that came to it.

    Args:
        listening: Where a gateway connects.
        token: The cluster's.
        changes: Fields of its hello that are otherwise.
    """
    sock, _ = await asyncio.get_running_loop().sock_accept(listening)
    sock.setblocking(False)
    await prove_as_replica(sock, token)
    fields: dict[str, Any] = {
        "name": "fake",
        "digest": "0" * 64,
        "version": "1.2.3",
        "batch_sizes": [1, 2, 4],
        "silence_ms": SILENCE_MS,
        "max_payload_bytes": 2**30,
    }
    message = wire.ReplicaHello(**(fields | changes))
    await send_hello(sock, wire.FRAME_KIND_REPLICA_HELLO, message)
    _, descriptors = await receive_hello(sock, wire.FRAME_KIND_GATEWAY_HELLO, wire.GatewayHello)
    return Peer(sock), descriptors
