"""The handshake: gateway and replica prove to each other that they know the cluster's token.

    gateway -> replica   magic, version, nonce
    replica -> gateway   magic, version, nonce
    gateway -> replica   HMAC-SHA256(key, "gateway" and both of the above)
    replica -> gateway   HMAC-SHA256(key, "replica" and both of the above)

The token never crosses the wire. Whoever connects proves itself first, so that a stranger learns
nothing but a random number. The two labels keep a proof from being sent back as one's own; both
nonces keep one from being sent again. Every message has a fixed size, and no more than that is read
before the other side has proved itself.

What follows is neither encrypted nor signed: who can change packets of a connection between
machines can change what is computed. Within a machine nobody can.
"""

import asyncio
import hashlib
import hmac
import secrets
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serving.replicas.errors import HandshakeError

# Raised whenever frames change so that older programs would misread them.
VERSION = 1

# How long all of it may take.
HANDSHAKE_S = 5.0

# Fewer bits could be guessed by whoever has recorded a handshake.
MIN_TOKEN_BYTES = 16

_MAGIC = b"HPCAUTH\0"
_NONCE_BYTES = 32
_OPENING = struct.Struct(f"<8sH{_NONCE_BYTES}s")
_PROOF_BYTES = hashlib.sha256().digest_size
_KEY_LABEL = b"hpc.serving.transport.v1"


async def prove_as_gateway(sock: socket.socket, token: bytes) -> None:
    """Runs the side of whoever connects.

    Args:
        sock: Connected and not blocking.
        token: The cluster's.

    Raises:
        HandshakeError: The other side is no replica, of another version, or does not know the
            token, or it refused; or it took longer than HANDSHAKE_S.
        OSError: The connection failed.
    """
    ours = _opening()
    async with _time_limit():
        await _send(sock, ours)
        theirs = await _read_opening(sock, "replica")
        _check_version(theirs, "replica")
        await _send(sock, _proof(token, b"gateway", ours, theirs))
        proof = await _read(sock, _PROOF_BYTES)
        if not proof:
            raise HandshakeError("the replica has refused the token")
        if not hmac.compare_digest(proof, _proof(token, b"replica", ours, theirs)):
            raise HandshakeError("what answers does not know the token")


async def prove_as_replica(sock: socket.socket, token: bytes) -> None:
    """Runs the side of whoever was connected to; the arguments and errors are the same.

    If this raises, close the socket: a stranger is told nothing.
    """
    async with _time_limit():
        theirs = await _read_opening(sock, "gateway")
        ours = _opening()
        await _send(sock, ours)  # Also to another version, which then can say what is wrong.
        _check_version(theirs, "gateway")
        proof = await _read(sock, _PROOF_BYTES)
        if not hmac.compare_digest(proof, _proof(token, b"gateway", theirs, ours)):
            raise HandshakeError("a gateway that does not know the token")
        await _send(sock, _proof(token, b"replica", theirs, ours))


def check_token(token: bytes) -> None:
    """Raises ValueError if a token is too short to be one."""
    if len(token) < MIN_TOKEN_BYTES:
        raise ValueError(
            f"a token of {len(token)} bytes; expected at least {MIN_TOKEN_BYTES} random ones"
        )


@asynccontextmanager
async def _time_limit() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            yield
    except TimeoutError as error:
        raise HandshakeError(f"no handshake within {HANDSHAKE_S:g} s") from error


def _opening() -> bytes:
    return _OPENING.pack(_MAGIC, VERSION, secrets.token_bytes(_NONCE_BYTES))


def _proof(token: bytes, side: bytes, gateway: bytes, replica: bytes) -> bytes:
    """Of one side, over all that was said before. The key is of use for nothing else."""
    key = hmac.digest(token, _KEY_LABEL, "sha256")
    return hmac.digest(key, side + gateway + replica, "sha256")


async def _read_opening(sock: socket.socket, side: str) -> bytes:
    opening = await _read(sock, _OPENING.size)
    if len(opening) < _OPENING.size:
        raise HandshakeError(f"no {side}: it has closed the connection")
    magic, _, _ = _OPENING.unpack(opening)
    if magic != _MAGIC:
        raise HandshakeError(f"no {side}: it began with {magic!r}")
    return opening


def _check_version(opening: bytes, side: str) -> None:
    _, version, _ = _OPENING.unpack(opening)
    if version != VERSION:
        raise HandshakeError(f"a {side} of protocol version {version}; this one is {VERSION}")


async def _read(sock: socket.socket, size: int) -> bytes:
    """Reads so many bytes, or fewer if the connection ends. Never a byte more."""
    loop = asyncio.get_running_loop()
    received = b""
    while len(received) < size:
        more = await loop.sock_recv(sock, size - len(received))
        if not more:
            break
        received += more
    return received


async def _send(sock: socket.socket, message: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, message)
