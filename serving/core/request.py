"""A request and its answer, apart from any protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

# By name. A leading dimension is the batch. BYTES are object arrays of Python's bytes.
Arrays = Mapping[str, np.ndarray]


class Protocol(StrEnum):
    """By which way a request came: a label of metrics and logs."""

    GRPC = "grpc"
    GRPC_STREAM = "grpc_stream"
    REST = "rest"
    PREDICT = "predict"


@dataclass(frozen=True, slots=True)
class Call:
    """What is known of a request before its tensors are read. Admission needs no more than this.

    Attributes:
        protocol: by which way it came.
        model: a name, as the caller wrote it.
        version: as the caller wrote it; "" for the one that the name stands for.
        request_id: well formed, of the caller or made here; also in the log and in the answer.
        client: whom rate limits count: the peer's address without its port.
        size_bytes: what the request holds in memory until it is answered.
        deadline: of `time.monotonic`, when the caller no longer waits.
        priority: 0 is usual, 1 the most urgent, larger numbers less so, as Triton has it.
    """

    protocol: Protocol
    model: str
    version: str
    request_id: str
    client: str
    size_bytes: int
    deadline: float
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Inputs:
    """The tensors of a request, checked against the model's signature.

    Attributes:
        arrays: every input of the model, read-only; views of the request's own bytes where that is
            possible. All have the same batch dimension.
        outputs: names of the outputs that are wanted, in the order of the answer.
        parameters: those of the request that change the answer, such as `classification`; they
            are part of the cache's key.
    """

    arrays: Arrays
    outputs: tuple[str, ...]
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def batch_size(self) -> int:
        """Number of examples."""
        return len(next(iter(self.arrays.values())))


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of an answer went.

    Attributes:
        queue_s: from admission until its batch was sent to a replica.
        infer_s: of the computation, as the replica measured it.
        batch_size: examples that were computed together, padding not counted.
        replica: which computed it; "" if none did.
        cached: the answer was known, or being computed for another caller.
        first: of the answers of its batch, it is the one by which the batch is counted.
    """

    queue_s: float = 0.0
    infer_s: float = 0.0
    batch_size: int = 0
    replica: str = ""
    cached: bool = False
    first: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says.

    Attributes:
        model: its name.
        version: the resolved one.
        outputs: those that were asked for, in that order.
        timings: where the time went.
    """

    model: str
    version: str
    outputs: Arrays
    timings: Timings = field(default_factory=Timings)
