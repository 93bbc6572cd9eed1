"""Replicas that answer when a test says so, and as it says."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from serving.core.channel import Channel, Computed, Job, OnDone, ReplicaLostError
from serving.core.errors import Kind, ServingError
from serving.core.model import ServedModel
from serving.core.signature import TensorSpec
from serving.replicas.compute import has_nonfinite

# Takes images and scores them; small enough to be checked by hand.
SUMS = ServedModel(
    name="sums",
    version="1.2.3",
    platform="test",
    directory=Path("unused"),
    digest="unused",
    inputs=(TensorSpec("x", "FP32", (-1, 2)),),
    outputs=(TensorSpec("sum", "FP32", (-1,)), TensorSpec("double", "FP32", (-1, 2))),
    max_batch_size=8,
)


def sums(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the model of SUMS computes."""
    return {"sum": inputs["x"].sum(axis=1), "double": 2 * inputs["x"]}


# What a job ends with that nobody waited for any more.
CANCELLED = ServingError(Kind.CANCELLED, "cancelled")


class HeldChannel:
    """A replica that keeps its jobs until `finish` or `fail`.

    Attributes:
        jobs: Every job that came, in order.
        cancelled: Those of them that were cancelled.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.jobs: list[Job] = []
        self.cancelled: list[Job] = []
        self._waiting: list[tuple[Job, OnDone]] = []

    @property
    def in_flight(self) -> int:
        """Jobs that came and are not done."""
        return len(self._waiting)

    def submit(self, job: Job, on_done: OnDone) -> Callable[[], None]:
        """Keeps a job."""
        self.jobs.append(job)
        self._waiting.append((job, on_done))
        return lambda: self.cancelled.append(job)

    def finish(
        self, compute: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] = sums
    ) -> None:
        """Answers the oldest job."""
        job, on_done = self._waiting.pop(0)
        inputs = {name: np.concatenate(parts) for name, parts in job.inputs.items()}
        if self._is_cancelled(job):
            on_done(CANCELLED)
        else:
            outputs = compute(inputs)
            nonfinite = any(map(has_nonfinite, outputs.values()))
            on_done(Computed(outputs, 0.001, self.name, nonfinite))

    def fail(self, error: ServingError | ReplicaLostError) -> None:
        """Ends the oldest job with an error."""
        job, on_done = self._waiting.pop(0)
        on_done(CANCELLED if self._is_cancelled(job) else error)

    def _is_cancelled(self, job: Job) -> bool:
        return any(job is other for other in self.cancelled)


class HeldChannels:
    """A set of replicas that a test changes."""

    def __init__(self, *channels: HeldChannel) -> None:
        self.connected: list[Channel] = list(channels)
        self.reason = "the replica died"
        self.is_starting = False
        self._changed: list[Callable[[], None]] = []

    def why_empty(self) -> str:
        """What a test has put into `reason`."""
        return self.reason

    def subscribe(self, changed: Callable[[], None]) -> None:
        """As the real one."""
        self._changed.append(changed)

    def change(self, *channels: HeldChannel) -> None:
        """These are connected from now on."""
        self.connected = list(channels)
        for changed in self._changed:
            changed()
