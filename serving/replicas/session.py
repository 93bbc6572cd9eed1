"""The replica's side of one connection: jobs come, are computed in their turn, and are answered.

Frames are read in the server's event loop. An answer is written by the worker's thread, which has
computed it: one switch of threads less, and the loop is free for other gateways.
"""

import asyncio
import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from hpc.serving.v1 import transport_pb2 as wire

from serving.replicas.arena import ReaderArena, WriterArena
from serving.replicas.compute import computed
from serving.replicas.connection import Connection
from serving.replicas.errors import FrameError
from serving.replicas.frames import Buffer, decode_header, encode_frame
from serving.replicas.limits import Limits
from serving.replicas.liveness import Liveness
from serving.replicas.model import LoadedModel
from serving.replicas.receiving import Frame
from serving.replicas.tensors import describe, views
from serving.replicas.worker import Worker

_log = logging.getLogger(__name__)

# Of what a gateway's log is told of an error of the model.
_MAX_MESSAGE, _MAX_DETAIL = 500, 8000

_GOODBYE = encode_frame(wire.FRAME_KIND_GOODBYE, wire.Goodbye())


class Session:
    """One gateway that is connected.

    Args:
        sock: Its connection, after both have said hello. It belongs to the session.
        loop: The running event loop.
        model: Computes.
        name: Of this replica.
        worker: Shared by all sessions.
        hello: The gateway's.
        arenas: For requests and for replies; None where nothing is shared.
        limits: This side's.
        on_closed: Called once, in the loop, when the connection has ended.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        model: LoadedModel,
        name: str,
        worker: Worker,
        hello: wire.GatewayHello,
        arenas: tuple[ReaderArena, WriterArena] | None,
        limits: Limits,
        on_closed: Callable[["Session"], None],
    ) -> None:
        self._loop, self._model, self._name, self._worker = loop, model, name, worker
        self._max_reply_bytes, self._limits = hello.max_payload_bytes, limits
        self._requests = arenas[0] if arenas else None
        self._replies = arenas[1] if arenas else None
        self._on_closed = on_closed
        # Of each job that is not answered, bytes of inputs that are not in shared memory; the sum.
        self._jobs: dict[int, int] = {}
        self._waiting_bytes = 0
        self._jobs_lock = threading.Lock()
        self._connection = Connection(
            sock,
            loop,
            max_payload_bytes=limits.max_payload_bytes,
            on_frame=self._frame,
            on_closed=self._closed,
            on_drained=self._resume,
        )
        self._liveness = Liveness(self._connection, loop, limits.silence_s, hello.silence_ms / 1000)

    @property
    def in_flight(self) -> int:
        """Jobs that came and are not answered."""
        return len(self._jobs)

    def goodbye(self) -> None:
        """Asks the gateway to send no more, and to close the connection when it has its answers."""
        self._connection.send(_GOODBYE)

    def close(self, reason: str) -> None:
        """Ends the connection; jobs that have not begun are never computed."""
        self._connection.close(reason)

    def _closed(self, reason: str) -> None:
        _log.info("%s: a gateway's connection has ended: %s", self._name, reason)
        self._liveness.stop()
        # Not when Python next looks for cycles, of which this object is one.
        self._requests = self._replies = None
        with self._jobs_lock:
            jobs = list(self._jobs)
        for job in jobs:
            self._worker.withdraw((self, job))
        self._on_closed(self)

    def _frame(self, frame: Frame) -> None:
        if frame.kind == wire.FRAME_KIND_RUN:
            self._run(decode_header(wire.Run, frame.header), frame.payload)
        elif frame.kind == wire.FRAME_KIND_CANCEL:
            job = decode_header(wire.Cancel, frame.header).job
            if self._worker.withdraw((self, job)):
                self._answer(wire.Reply(job=job, outcome=wire.OUTCOME_CANCELLED))
        elif frame.kind == wire.FRAME_KIND_RELEASE:
            self._release(decode_header(wire.Release, frame.header).offsets)
        elif frame.kind != wire.FRAME_KIND_HEARTBEAT:
            raise FrameError(f"a frame of kind {frame.kind}, which no gateway sends")

    def _run(self, run: wire.Run, payload: bytes | np.ndarray) -> None:
        if run.job in self._jobs:
            raise FrameError(f"job {run.job} came again before it was answered")
        if shared := run.HasField("block"):
            if self._requests is None:
                raise FrameError("a block, where no memory is shared")
            payload = self._requests.block(run.block.offset, run.block.size)
        inputs = views(run.inputs, payload, len(payload))
        own_bytes = 0 if shared else len(payload)
        with self._jobs_lock:
            self._jobs[run.job] = own_bytes
            self._waiting_bytes += own_bytes
        if refusal := self._model.refusal(inputs, run.outputs):
            self._answer(wire.Reply(job=run.job, outcome=wire.OUTCOME_REFUSED, message=refusal))
            return
        deadline = time.monotonic() + run.timeout_s
        task = partial(self._compute, run.job, inputs, list(run.outputs), deadline)
        self._worker.submit((self, run.job), task)
        if self._full():
            self._connection.pause()

    def _compute(
        self, job: int, inputs: dict[str, np.ndarray], wanted: Sequence[str], deadline: float
    ) -> None:
        """In the worker's thread: from inputs to the answer, whatever it is."""
        if time.monotonic() > deadline:
            self._answer(wire.Reply(job=job, outcome=wire.OUTCOME_EXPIRED))
            return
        batch_size = len(next(iter(inputs.values())))
        reply = wire.Reply(job=job, outcome=wire.OUTCOME_OK)
        try:
            result = computed(self._model.compute, inputs, wanted, batch_size, self._name)
            reply.infer_s, reply.nonfinite = result.infer_s, result.nonfinite
            parts = {name: [output] for name, output in result.outputs.items()}
            payload, size = describe(parts, batch_size, reply.outputs)
            if size > self._max_reply_bytes:
                raise ValueError(f"outputs of {size} bytes; at most {self._max_reply_bytes}")
            frame = self._framed(reply, payload, size)
        except BaseException as error:  # Whatever it is, it is of this job, and the others go on.
            self._answer(_failure(job, error))
            return
        self._send(job, frame)

    def _framed(self, reply: wire.Reply, payload: Sequence[Buffer], size: int) -> Sequence[Buffer]:
        """A reply with its outputs, which are in shared memory if they are large."""
        replies = self._replies  # Which the loop's thread may let go meanwhile.
        if replies is not None and size >= self._limits.shared_min_bytes:
            offset = replies.write(payload, size)
            if offset is not None:
                reply.block.offset, reply.block.size = offset, size
                payload, size = (), 0
        return encode_frame(wire.FRAME_KIND_REPLY, reply, payload, size)

    def _answer(self, reply: wire.Reply) -> None:
        """Answers without outputs."""
        self._send(reply.job, encode_frame(wire.FRAME_KIND_REPLY, reply))

    def _send(self, job: int, frame: Sequence[Buffer]) -> None:
        with self._jobs_lock:
            self._waiting_bytes -= self._jobs.pop(job)
        self._connection.send(frame)
        if self._connection.paused:
            self._loop.call_soon_threadsafe(self._resume)

    def _release(self, offsets: Sequence[int]) -> None:
        for offset in offsets:
            if self._replies is None or not self._replies.free(offset):
                raise FrameError(f"no block at {offset} is to be released")

    def _full(self) -> bool:
        limits = self._limits
        return (
            self._waiting_bytes > limits.max_waiting_bytes
            or len(self._jobs) > limits.max_waiting_jobs
            or self._connection.backlog_bytes > limits.max_backlog_bytes
        )

    def _resume(self) -> None:
        if self._connection.paused and not self._full():
            self._connection.resume()


def _failure(job: int, error: BaseException) -> wire.Reply:
    first_line = traceback.format_exception_only(error)[0].strip().partition("\n")[0]
    return wire.Reply(
        job=job,
        outcome=wire.OUTCOME_FAILED,
        message=_encodable(first_line)[:_MAX_MESSAGE],
        detail=_encodable("".join(traceback.format_exception(error)))[-_MAX_DETAIL:],
    )


def _encodable(text: str) -> str:
    """Text as protobuf takes it: names of files may hold what is no character."""
    return text.encode(errors="backslashreplace").decode()
