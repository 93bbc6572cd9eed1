"""From a replica's address to a channel: connects, proves to know the token, and says hello."""

import asyncio
import socket
from collections.abc import Callable, Sequence

from hpc.serving.v1 import transport_pb2 as wire

from serving.replicas.addresses import is_unix, parse
from serving.replicas.arena import ReaderArena, WriterArena, create_memory
from serving.replicas.channel import ReplicaChannel
from serving.replicas.connection import prepare
from serving.replicas.errors import ConnectError, FrameError, HandshakeError
from serving.replicas.handshake import check_token, prove_as_gateway
from serving.replicas.hello import close_all, receive_hello, send_hello
from serving.replicas.limits import DEFAULT, Limits
from serving.replicas.liveness import MIN_SILENCE_S

# A listening replica accepts at once; on another machine a packet may be lost a few times.
CONNECT_S = 5.0

# Of each of the two arenas of a connection. Pages that were never used take no memory.
ARENA_BYTES = 2**28


async def connect(
    address: str,
    token: bytes,
    on_lost: Callable[[], None],
    *,
    on_draining: Callable[[], None] = lambda: None,
    limits: Limits = DEFAULT,
    arena_bytes: int = ARENA_BYTES,
) -> ReplicaChannel:
    """Connects to a replica.

    Args:
        address: One of `RunningServer.addresses`.
        token: The cluster's.
        on_lost: Called once, when the connection has ended, for whatever reason; all jobs in
            flight have been told by then.
        on_draining: Called when the replica asks to be sent no more. It goes on to answer what it
            has, and then the connection ends.
        limits: Of this side.
        arena_bytes: Of memory that is shared in each direction, on the same machine; 0 for none.

    Returns:
        A channel to be used from the running event loop.

    Raises:
        ConnectError: Nobody is there, or it is no replica, or it does not accept the token.
        ValueError: An argument is none that is accepted.
    """
    check_token(token)
    family, place = parse(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        prepare(sock)
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().sock_connect(sock, place)
        await prove_as_gateway(sock, token)
        hello, _ = await receive_hello(sock, wire.FRAME_KIND_REPLICA_HELLO, wire.ReplicaHello)
        _check(hello)
        arenas = await _share(sock, limits, arena_bytes if is_unix(address) else 0)
        return ReplicaChannel(
            sock,
            address,
            hello,
            arenas=arenas,
            limits=limits,
            on_lost=on_lost,
            on_draining=on_draining,
        )
    except TimeoutError as error:
        sock.close()
        raise ConnectError(f"{address}: no connection within {CONNECT_S:g} s") from error
    except (HandshakeError, FrameError, OSError) as error:
        sock.close()
        raise ConnectError(f"{address}: {error}") from error
    except BaseException:
        sock.close()
        raise


def _check(hello: wire.ReplicaHello) -> None:
    sizes: Sequence[int] = hello.batch_sizes
    if not hello.name or not sizes or sorted(set(sizes)) != list(sizes) or sizes[0] < 1:
        raise FrameError(f"a replica {hello.name!r} with batches of {list(sizes)}")
    if hello.silence_ms < 1000 * MIN_SILENCE_S:
        raise FrameError(f"a replica that bears a silence of {hello.silence_ms} ms")


async def _share(
    sock: socket.socket, limits: Limits, arena_bytes: int
) -> tuple[WriterArena, ReaderArena] | None:
    """Says hello, with two arenas if there are to be any, and returns them."""
    hello = wire.GatewayHello(
        silence_ms=round(1000 * limits.silence_s),
        max_payload_bytes=limits.max_payload_bytes,
        arena_bytes=arena_bytes,
    )
    if not arena_bytes:
        await send_hello(sock, wire.FRAME_KIND_GATEWAY_HELLO, hello)
        return None
    descriptors: list[int] = []
    try:
        for _ in range(2):
            descriptors.append(create_memory(arena_bytes))
        await send_hello(sock, wire.FRAME_KIND_GATEWAY_HELLO, hello, descriptors)
        return (
            WriterArena(descriptors[0], arena_bytes),
            ReaderArena(descriptors[1], arena_bytes),
        )
    finally:
        close_all(descriptors)
