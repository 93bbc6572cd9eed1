"""A replica's own server: listens for gateways, in a thread with an event loop of its own.

The loop is not Ray's, in whose turns a job would have to wait, and computes nothing.
"""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop
from hpc.serving.v1 import transport_pb2 as wire

from serving.replicas.addresses import listen_tcp, listen_unix
from serving.replicas.arena import ReaderArena, WriterArena, check_memory
from serving.replicas.connection import prepare
from serving.replicas.errors import FrameError, HandshakeError
from serving.replicas.handshake import check_token, prove_as_replica
from serving.replicas.hello import close_all, receive_hello, send_hello
from serving.replicas.limits import DEFAULT, Limits
from serving.replicas.liveness import MIN_SILENCE_S
from serving.replicas.model import LoadedModel
from serving.replicas.session import Session
from serving.replicas.worker import Worker

_log = logging.getLogger(__name__)

# Connections that have not proved themselves yet; more are closed at once, so that strangers cannot
# take all descriptors of the process.
_MAX_STRANGERS = 64

# After an error such as too many open files, of which there will be as many in a moment.
_ACCEPT_AGAIN_S = 0.1


def serve(
    model: LoadedModel,
    *,
    name: str,
    unix_path: Path | None,
    tcp_host: str | None,
    token: bytes,
    limits: Limits = DEFAULT,
) -> "RunningServer":
    """Starts to serve a model to gateways.

    Args:
        model: Warm.
        name: Of this replica, unique among all that ever were.
        unix_path: Where to listen for gateways of this machine: a path that is not there yet, in a
            directory of mode 0700, which is made if need be; or None.
        tcp_host: The one IP address at which to listen for gateways of other machines, or None.
        token: The cluster's, at least 16 bytes.
        limits: Of each connection.

    Returns:
        The server, which can be connected to already.

    Raises:
        ValueError: An argument is none that is accepted, or there is nowhere to listen.
        OSError: The system does not let it listen there.
    """
    check_token(token)
    if unix_path is None and tcp_host is None:
        raise ValueError("a replica listens on a path, an IP address, or both; got neither")
    listening: list[tuple[socket.socket, str]] = []
    try:
        if unix_path is not None:
            listening.append(listen_unix(unix_path))
        if tcp_host is not None:
            listening.append(listen_tcp(tcp_host))
        return RunningServer(model, name, listening, unix_path, token, limits)
    except BaseException:
        for sock, _ in listening:
            sock.close()
        if listening and unix_path is not None:
            unix_path.unlink()
        raise


class RunningServer:
    """A server that has been started; see `serve`. Its methods may be called from any thread.

    Attributes:
        addresses: Where it listens: "unix:/path", "tcp:host:port".
    """

    def __init__(
        self,
        model: LoadedModel,
        name: str,
        listening: Sequence[tuple[socket.socket, str]],
        unix_path: Path | None,
        token: bytes,
        limits: Limits,
    ) -> None:
        self.addresses = [address for _, address in listening]
        self._model, self._name, self._token, self._limits = model, name, token, limits
        self._unix_path = unix_path
        self._worker = Worker()
        self._sessions: set[Session] = set()
        # Set whenever a session has ended.
        self._left = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers = 0
        self._stopping = False
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="replica", daemon=True)
        self._thread.start()
        for sock, _ in listening:
            self._loop.call_soon_threadsafe(self._begin, self._accept(sock))

    @property
    def in_flight(self) -> int:
        """Jobs that came and are not answered."""
        return sum(session.in_flight for session in list(self._sessions))

    @property
    def gateways(self) -> int:
        """How many are connected."""
        return len(self._sessions)

    @property
    def busy_s(self) -> float:
        """For how long the batch that is being computed has been, in seconds; 0 if none is."""
        return self._worker.busy_s

    @property
    def alive(self) -> bool:
        """Whether both threads are there: the one that talks and the one that computes."""
        return self._thread.is_alive() and self._worker.alive

    def stop(self, drain_s: float) -> None:
        """Stops: asks gateways to send no more, waits until they have their answers, and ends.

        Args:
            drain_s: How long to wait for that; after it connections are closed as they are.
        """
        if self._stopping:
            self._thread.join()
            return
        self._stopping = True
        asyncio.run_coroutine_threadsafe(self._drain(drain_s), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._worker.end()
        if self._unix_path is not None:
            self._unix_path.unlink(missing_ok=True)

    async def _drain(self, drain_s: float) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for session in list(self._sessions):
            session.goodbye()
        # Gateways close their connections when they have all answers.
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while self._sessions:
                    self._left.clear()
                    await self._left.wait()
        for session in list(self._sessions):
            session.close("the replica has ended")

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        with listening:
            while True:
                try:
                    sock, _ = await self._loop.sock_accept(listening)
                except OSError as error:
                    _log.warning("%s: cannot accept a gateway: %s", self._name, error)
                    await asyncio.sleep(_ACCEPT_AGAIN_S)
                    continue
                if self._strangers >= _MAX_STRANGERS:
                    sock.close()
                    continue
                self._strangers += 1
                self._begin(self._welcome(sock))

    async def _welcome(self, sock: socket.socket) -> None:
        """From a connection of a stranger to a session with a gateway."""
        try:
            prepare(sock)
            await prove_as_replica(sock, self._token)
            await send_hello(sock, wire.FRAME_KIND_REPLICA_HELLO, self._hello())
            hello, descriptors = await receive_hello(
                sock, wire.FRAME_KIND_GATEWAY_HELLO, wire.GatewayHello
            )
            try:
                session = self._session(sock, hello, descriptors)
            finally:
                close_all(descriptors)
        except (HandshakeError, FrameError, OSError) as error:
            _log.warning("%s: a connection was refused: %s", self._name, error)
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            self._sessions.add(session)
        finally:
            self._strangers -= 1

    def _hello(self) -> wire.ReplicaHello:
        return wire.ReplicaHello(
            name=self._name,
            digest=self._model.digest,
            version=self._model.version,
            batch_sizes=self._model.batch_sizes,
            pid=os.getpid(),
            silence_ms=round(1000 * self._limits.silence_s),
            max_payload_bytes=self._limits.max_payload_bytes,
        )

    def _session(
        self, sock: socket.socket, hello: wire.GatewayHello, descriptors: Sequence[int]
    ) -> Session:
        if hello.silence_ms < 1000 * MIN_SILENCE_S:
            raise FrameError(f"a gateway that bears a silence of {hello.silence_ms} ms")
        arenas, size = None, hello.arena_bytes
        if size or descriptors:
            if len(descriptors) != 2:
                raise FrameError(f"arenas of {size} bytes, with {len(descriptors)} descriptors")
            for descriptor in descriptors:
                check_memory(descriptor, size)
            arenas = ReaderArena(descriptors[0], size), WriterArena(descriptors[1], size)
        return Session(
            sock,
            self._loop,
            model=self._model,
            name=self._name,
            worker=self._worker,
            hello=hello,
            arenas=arenas,
            limits=self._limits,
            on_closed=self._leave,
        )

    def _leave(self, session: Session) -> None:
        self._sessions.discard(session)
        self._left.set()
