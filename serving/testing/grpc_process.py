"""A gRPC server in a process of its own, whose memory can be measured."""

import ctypes
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from base.memory import peak_resident_bytes, resident_bytes
from serving.core.channel import Job, OnDone
from serving.core.outcome import NoObserver
from serving.core.signature import TensorSpec
from serving.protocols.over_grpc.options import GrpcOptions
from serving.testing.grpc_server import running_grpc
from serving.testing.served_models import DIGITS

WAIT_S = 120


class NeverAnswers:
    """A replica that takes requests, answers none, and forgets those that are cancelled."""

    name = "never"
    in_flight = 0

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}

    def submit(self, job: Job, on_done: OnDone) -> Callable[[], None]:
        """Keeps a job until it is cancelled."""
        number = id(job)
        self._jobs[number] = job

        def cancel() -> None:
            del self._jobs[number]

        return cancel


@dataclass
class Measured:
    """A server, and what it says of itself.

    Attributes:
        address: Where it listens.
    """

    address: str
    _pipe: Connection

    def requests(self) -> int:
        """How many it is answering."""
        return self._ask("requests")

    def peak_bytes(self) -> int:
        """The most memory that it had."""
        return self._ask("peak")

    def kept_bytes(self) -> int:
        """The memory that it has, without what its allocator merely holds in reserve."""
        return self._ask("kept")

    def _ask(self, what: str) -> int:
        self._pipe.send(what)
        if not self._pipe.poll(WAIT_S):
            raise TimeoutError("the server's process does not answer")
        return self._pipe.recv()


@contextmanager
def grpc_process(input_bytes: int, max_message_bytes: int, max_bytes: int) -> Iterator[Measured]:
    """Serves a model "large" that takes so many bytes, and never answers.

    Args:
        input_bytes: Of an example.
        max_message_bytes: As of GrpcOptions.
        max_bytes: Of all requests at once.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (theirs, input_bytes, max_message_bytes, max_bytes)
    process = context.Process(target=_serve, args=arguments, daemon=True)
    process.start()
    try:
        if not ours.poll(WAIT_S):
            raise TimeoutError("the server's process does not start")
        yield Measured(ours.recv(), ours)
    finally:
        ours.send("end")
        process.join(WAIT_S)


def _serve(pipe: Connection, input_bytes: int, max_message_bytes: int, max_bytes: int) -> None:
    model = replace(
        DIGITS,
        name="large",
        inputs=(TensorSpec("x", "UINT8", (-1, input_bytes)),),
        outputs=(TensorSpec("y", "UINT8", (-1, 1)),),
    )
    options = GrpcOptions(max_message_bytes=max_message_bytes)
    with running_grpc([(model, NeverAnswers())], options=options, max_bytes=max_bytes) as running:
        # Errors that are kept hold all that they came through.
        running.local.recorder.done = NoObserver().done  # type: ignore[method-assign]
        pipe.send(running.address)
        while (question := pipe.recv()) != "end":
            if question == "requests":
                pipe.send(running.local.admission.requests)
            elif question == "peak":
                pipe.send(peak_resident_bytes())
            else:
                ctypes.CDLL(None).malloc_trim(0)
                pipe.send(resident_bytes())
