"""The gateway's side of a connection to a replica: `serving.core.channel.Channel`."""

import asyncio
import logging
import secrets
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from hpc.serving.v1 import transport_pb2 as wire

from serving.core.channel import Computed, Job, OnDone, ReplicaLostError
from serving.core.errors import Kind, ServingError
from serving.replicas.arena import ReaderArena, WriterArena
from serving.replicas.connection import Connection
from serving.replicas.errors import FrameError
from serving.replicas.frames import decode_header, encode_frame
from serving.replicas.limits import Limits
from serving.replicas.liveness import Liveness
from serving.replicas.receiving import Frame
from serving.replicas.tensors import describe, views

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pending:
    """A job that is not answered: whom to tell, and its block in the arena of requests."""

    on_done: OnDone
    block: int | None
    cancelled: bool = False


class ReplicaChannel:
    """One connected replica. It is used from one event loop; `connect` makes one.

    Attributes:
        address: Where it is.
        name: Of the replica, unique among all that ever were.
        digest: Of the artifact that it serves.
        version: Of the model.
        batch_sizes: For which it is warm, ascending; no batch may be larger than the last.
        pid: Of its process, on its own machine.
        draining: It has asked to be sent no more.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        hello: wire.ReplicaHello,
        *,
        arenas: tuple[WriterArena, ReaderArena] | None,
        limits: Limits,
        on_lost: Callable[[], None],
        on_draining: Callable[[], None],
    ) -> None:
        self.address, self.name, self.digest = address, hello.name, hello.digest
        self.version, self.batch_sizes, self.pid = (
            hello.version,
            tuple(hello.batch_sizes),
            hello.pid,
        )
        self.draining = self._closing = False
        self._max_request_bytes, self._limits = hello.max_payload_bytes, limits
        self._on_lost, self._on_draining = on_lost, on_draining
        self._requests = arenas[0] if arenas else None
        self._replies = arenas[1] if arenas else None
        self._released: deque[int] = deque()
        self._pending: dict[int, _Pending] = {}
        self._last_job = 0
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(
            sock,
            self._loop,
            max_payload_bytes=limits.max_payload_bytes,
            on_frame=self._frame,
            on_closed=self._closed,
        )
        self._liveness = Liveness(
            self._connection, self._loop, limits.silence_s, hello.silence_ms / 1000
        )

    @property
    def in_flight(self) -> int:
        """Jobs that were submitted and are not done."""
        return len(self._pending)

    @property
    def shared_bytes(self) -> int:
        """What this side has in the arena of requests, and the replica has not let go."""
        return self._requests.used_bytes if self._requests is not None else 0

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""
        return self._connection.closed

    def submit(self, job: Job, on_done: OnDone) -> Callable[[], None]:
        """See `Channel.submit`."""
        if self._connection.closed or self.draining:
            return self._refuse(on_done, ReplicaLostError(f"replica {self.name} takes no more"))
        if self._connection.backlog_bytes > self._limits.max_backlog_bytes:
            busy = f"the replica's connection holds {self._connection.backlog_bytes} bytes already"
            return self._refuse(
                on_done, ServingError(Kind.OVERLOADED, busy, reason="replica_backlog")
            )
        self._last_job += 1
        number = self._last_job
        run = wire.Run(job=number, outputs=job.outputs, timeout_s=job.timeout_s)
        payload, size = describe(job.inputs, job.batch_size, run.inputs)
        if size > self._max_request_bytes:
            large = f"a batch of {size} bytes; a replica takes {self._max_request_bytes}"
            return self._refuse(on_done, ServingError(Kind.TOO_LARGE, large))
        block = None
        if self._requests is not None and size >= self._limits.shared_min_bytes:
            block = self._requests.write(payload, size)
            if block is not None:
                run.block.offset, run.block.size = block, size
                payload, size = [], 0
        frame = encode_frame(wire.FRAME_KIND_RUN, run, payload, size)
        self._pending[number] = _Pending(on_done, block)
        self._connection.send(frame)
        return partial(self._cancel, number)

    def close(self) -> None:
        """Ends the connection; jobs in flight end with ReplicaLostError."""
        self._closing = True
        self._connection.close("this gateway has closed it")

    def _refuse(
        self, on_done: OnDone, error: ReplicaLostError | ServingError
    ) -> Callable[[], None]:
        """Answers in the loop's next turn, as every answer comes after `submit` has returned."""
        self._loop.call_soon(on_done, error)
        return _nothing

    def _cancel(self, number: int) -> None:
        pending = self._pending.get(number)
        if pending is None or pending.cancelled:
            return
        pending.cancelled = True
        cancel = wire.Cancel(job=number)
        self._connection.send(encode_frame(wire.FRAME_KIND_CANCEL, cancel))

    def _frame(self, frame: Frame) -> None:
        if frame.kind == wire.FRAME_KIND_REPLY:
            self._reply(decode_header(wire.Reply, frame.header), frame.payload)
        elif frame.kind == wire.FRAME_KIND_GOODBYE:
            self.draining = True
            self._on_draining()
        elif frame.kind != wire.FRAME_KIND_HEARTBEAT:
            raise FrameError(f"a frame of kind {frame.kind}, which no replica sends")
        if self.draining and not self._pending:
            self._connection.close("the replica has said goodbye")

    def _reply(self, reply: wire.Reply, payload: bytes | np.ndarray) -> None:
        pending = self._pending.pop(reply.job, None)
        if pending is None:
            raise FrameError(f"an answer to job {reply.job}, which is none")
        if pending.block is not None and self._requests is not None:
            self._requests.free(pending.block)
        try:
            outputs = self._outputs(reply, payload)
        except FrameError:
            _tell(pending.on_done, ReplicaLostError(f"replica {self.name} answered nonsense"))
            raise
        if pending.cancelled:
            _tell(pending.on_done, ServingError(Kind.CANCELLED, "nobody waited for it any more"))
        elif reply.outcome == wire.OUTCOME_OK:
            computed = Computed(outputs, reply.infer_s, self.name, reply.nonfinite)
            _tell(pending.on_done, computed)
        else:
            _tell(pending.on_done, self._error(reply))

    def _outputs(self, reply: wire.Reply, payload: bytes | np.ndarray) -> dict[str, np.ndarray]:
        if reply.HasField("block"):
            if self._replies is None:
                raise FrameError("a block, where no memory is shared")
            payload = self._replies.lent(reply.block.offset, reply.block.size, self._give_back)
        return views(reply.outputs, payload, len(payload))

    def _error(self, reply: wire.Reply) -> ServingError:
        """What a job that was not computed ends with; notes are for the log alone."""
        if reply.outcome == wire.OUTCOME_EXPIRED:
            return ServingError(Kind.DEADLINE, "the deadline passed before a replica was free")
        error = ServingError(Kind.INTERNAL, secrets.token_hex(4), reason="model_failed")
        error.add_note(f"replica {self.name}: {reply.message}")
        if reply.detail:
            error.add_note(reply.detail)
        return error

    def _give_back(self, offset: int) -> None:
        """A block of replies is of no more use. Any thread may be the one that drops it last."""
        self._released.append(offset)
        if len(self._released) == 1 and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        offsets = [self._released.popleft() for _ in range(len(self._released))]
        release = wire.Release(offsets=offsets)
        self._connection.send(encode_frame(wire.FRAME_KIND_RELEASE, release))

    def _closed(self, reason: str) -> None:
        self._liveness.stop()
        # Not when Python next looks for cycles, of which this object is one. Answers in use keep
        # the memory that they need.
        self._requests = self._replies = None
        pending, self._pending = self._pending, {}
        expected = self._closing or (self.draining and not pending)
        level, what = (logging.INFO, "has ended") if expected else (logging.WARNING, "is lost")
        _log.log(level, "replica %s at %s %s: %s", self.name, self.address, what, reason)
        error = ReplicaLostError(f"replica {self.name} is lost: {reason}")
        for job in pending.values():
            _tell(job.on_done, error)
        self._on_lost()


def _nothing() -> None:
    pass


def _tell(on_done: OnDone, result: Computed | ReplicaLostError | ServingError) -> None:
    """Calls who waits; whatever that raises is not the channel's, nor of other jobs."""
    try:
        on_done(result)
    except Exception:
        _log.exception("whoever waited for a job has failed")
