"""A replica as the core sees it: something that computes batches, one or a few at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from serving.core.errors import ServingError


class ReplicaLostError(Exception):
    """The connection to a replica ended before it answered: it died, or is being replaced.

    Whether it had computed is not known. To infer is idempotent, so another replica may be asked.
    """


@dataclass(frozen=True, slots=True)
class Job:
    """A batch that leaves for a replica.

    Attributes:
        inputs: for each input the parts [n_i, ...] of the batch in order, C-contiguous and equal in
            all dimensions but the first; they are not joined here, since the wire joins them.
        batch_size: the sum of n_i.
        outputs: names of the outputs that somebody wants.
        timeout_s: after that nobody waits, and a replica that has not begun need not begin.
    """

    inputs: Mapping[str, Sequence[np.ndarray]]
    batch_size: int
    outputs: Sequence[str]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Computed:
    """What a replica answers.

    Attributes:
        outputs: [batch_size, ...], read-only, C-contiguous, in memory of their own.
        infer_s: of the computation alone.
        replica: its name.
        nonfinite: an output has a NaN or an infinite value.
    """

    outputs: Mapping[str, np.ndarray]
    infer_s: float
    replica: str
    nonfinite: bool = False


# Called exactly once, in the event loop that submitted, when the replica is free of the job: only
# then can it be given another one. A job that was cancelled ends with an error of kind CANCELLED.
OnDone = Callable[[Computed | ReplicaLostError | ServingError], None]


class Channel(Protocol):
    """One connected replica. It is used from one event loop."""

    @property
    def name(self) -> str:
        """Of the replica, unique among all that ever were."""

    @property
    def in_flight(self) -> int:
        """Jobs that were submitted and are not done."""

    def submit(self, job: Job, on_done: OnDone) -> Callable[[], None]:
        """Sends a job, at once and without waiting; returns a function that cancels it.

        A function and no future, since the answer's way back is the hot path: a future would cost
        each batch one more turn of the event loop. What was cancelled is not begun if it can be
        helped, and stays in `in_flight` until the replica says that it is free.
        """


class Channels(Protocol):
    """The replicas of one version of a model that are connected now."""

    @property
    def connected(self) -> Sequence[Channel]:
        """All that can be given a job; a new list whenever it changes."""

    @property
    def is_starting(self) -> bool:
        """Whether there was none yet and nothing says that there will not be."""

    def why_empty(self) -> str:
        """Why there is none, in words for people: "starting", "the replica died", ..."""

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Has `changed` called, in the event loop, whenever one comes or goes."""
