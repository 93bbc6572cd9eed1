"""The first frame of each side, after the handshake: who it is, and the memory that they share."""

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import Message

from serving.replicas.errors import FrameError, HandshakeError
from serving.replicas.frames import PREFIX, decode_header, decode_prefix, encode_frame

# A hello is an answer to the handshake and takes no longer.
HELLO_S = 5.0

# Two arenas.
_MAX_DESCRIPTORS = 2

M = TypeVar("M", bound=Message)


async def send_hello(
    sock: socket.socket, kind: int, hello: Message, descriptors: Sequence[int] = ()
) -> None:
    """Sends a hello, with descriptors of memory where there are any.

    Raises:
        OSError: The connection failed.
    """
    (frame,) = encode_frame(kind, hello)
    sent = 0
    if descriptors:
        # The first message of a connection has room, so this does not block.
        sent = socket.send_fds(sock, [frame], list(descriptors))
    await asyncio.get_running_loop().sock_sendall(sock, memoryview(frame)[sent:])


async def receive_hello(sock: socket.socket, kind: int, message: type[M]) -> tuple[M, list[int]]:
    """Receives a hello, and descriptors if any come with it, which are then the caller's.

    Raises:
        FrameError: What came is no hello.
        HandshakeError: The connection ended, or nothing came within HELLO_S.
        OSError: The connection failed.
    """
    descriptors: list[int] = []
    try:
        async with asyncio.timeout(HELLO_S):
            prefix = await _receive(sock, PREFIX.size, descriptors)
            found, header_bytes, payload_bytes = decode_prefix(prefix, 0, 0)
            if found != kind or payload_bytes:
                raise FrameError(f"expected a frame of kind {kind} first, got {found}")
            header = await _receive(sock, header_bytes, descriptors)
        return decode_header(message, header), descriptors
    except BaseException as error:
        close_all(descriptors)
        if isinstance(error, TimeoutError):
            raise HandshakeError(f"no hello within {HELLO_S:g} s") from error
        raise


def close_all(descriptors: Sequence[int]) -> None:
    """Closes descriptors that are of no more use."""
    for descriptor in descriptors:
        os.close(descriptor)


async def _receive(sock: socket.socket, size: int, descriptors: list[int]) -> bytes:
    received = b""
    while len(received) < size:
        try:
            more, came, *_ = socket.recv_fds(
                sock, size - len(received), _MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            await _readable(sock)
            continue
        descriptors += came
        if not more:
            raise HandshakeError("the connection was closed before the hello")
        received += more
    return received


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
