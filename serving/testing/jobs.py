"""Jobs for replicas of images, and a model that computes when a test lets it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import uvloop

from serving.core.channel import Computed, Job, ReplicaLostError
from serving.core.errors import ServingError
from serving.replicas.limits import DEFAULT
from serving.testing.local_replica import mean_of_each_row

WAIT_S = 60.0  # far more than anything takes

# A machine that is busy for a minute has not lost anybody.
PATIENT = replace(DEFAULT, silence_s=3600.0)

_RNG = np.random.default_rng(5)

Results = list[Computed | ReplicaLostError | ServingError]


def images(batch_size: int) -> np.ndarray:
    """Random images [batch_size, 8, 8, 1] float32."""
    return _RNG.random((batch_size, 8, 8, 1), np.float32)


def job(*parts: np.ndarray, timeout_s: float = WAIT_S) -> Job:
    """Asks for the scores of images, in these parts."""
    return Job({"image": parts}, sum(map(len, parts)), ("logits",), timeout_s)


def do(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a test in the event loop that the gateway uses."""
    uvloop.run(asyncio.wait_for(test(), WAIT_S))


class Gate:
    """A model that computes only when it is let, and remembers the first value of each batch."""

    def __init__(self) -> None:
        self.running = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.computed: list[float] = []

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.running.release()
        assert self.go_on.acquire(timeout=WAIT_S)
        self.computed.append(float(inputs["image"].flat[0]))
        return mean_of_each_row(inputs)

    async def begun(self) -> None:
        """Returns when one more batch is being computed."""
        assert await asyncio.to_thread(self.running.acquire, timeout=WAIT_S)


def bytes_job(first: int) -> Job:
    """Asks the model of a replica in a process of its own about 100 bytes of this value."""
    return Job({"x": [np.full((1, 100), first, np.uint8)]}, 1, ("y",), WAIT_S)


def numbered(number: int) -> np.ndarray:
    """One image, whose mean is this number."""
    return np.full((1, 8, 8, 1), number, np.float32)
