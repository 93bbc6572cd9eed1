"""A request that waits for its answer, and a batch of them at a replica."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from serving.core.channel import Channel
from serving.core.errors import ServingError
from serving.core.model import ServedModel
from serving.core.request import Call, Inputs, Timings
from serving.core.sequences import fill_up
from serving.policies.bounded_queue import Entry


class Part(NamedTuple):
    """A request's part of a batch that was computed."""

    outputs: Mapping[str, np.ndarray]
    timings: Timings
    retries: int = 0
    nonfinite: bool = False


class Waiter(Entry):
    """A request from admission to its answer. Only those with the same `key` share a batch.

    Attributes:
        arrays: its inputs, filled up.
        lengths: how much to keep of each output.
        outputs: names of those that it wants.
        queued_at: when it was admitted.
        sent_at: when it left for a replica.
        attempts: replicas that it was sent to.
        epoch: of the breaker, when it was let through.
        running: the batch that it is in.
        future: its answer.
        timer: ends it at its deadline.
    """

    __slots__ = (
        "arrays",
        "attempts",
        "epoch",
        "future",
        "lengths",
        "outputs",
        "queued_at",
        "running",
        "sent_at",
        "timer",
    )

    def __init__(
        self, call: Call, inputs: Inputs, model: ServedModel, now: float, epoch: int
    ) -> None:
        self.arrays, self.lengths = fill_up(inputs.arrays, model)
        key = tuple([array.shape[1:] for array in self.arrays.values()])
        super().__init__(inputs.batch_size, call.size_bytes, key, call.deadline, call.priority)
        self.outputs = inputs.outputs
        self.queued_at = self.sent_at = now
        self.attempts = 0
        self.epoch = epoch
        self.running: Running | None = None
        self.future: asyncio.Future[Part] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None

    def fail(self, error: ServingError) -> None:
        """Ends it, if it has not ended."""
        if not self.future.done():
            self.future.set_exception(error)


class Running:
    """A batch at a replica.

    Attributes:
        channel: the replica.
        waiters: who waits for it, in the order of the batch; none once nobody does.
        requests: how many they were.
        size: examples in it.
        sent_at: when.
        epoch: of the breaker, then.
        cancel: tells the replica that nobody waits any more.
    """

    __slots__ = ("cancel", "channel", "epoch", "requests", "sent_at", "size", "waiters")

    def __init__(self, channel: Channel, waiters: Sequence[Waiter], now: float, epoch: int) -> None:
        self.channel = channel
        self.waiters = waiters
        self.requests = len(waiters)
        self.size = sum([waiter.size for waiter in waiters])
        self.sent_at = now
        self.epoch = epoch
        self.cancel: Callable[[], None] = _nothing

    def abandon_if_unwanted(self) -> None:
        """Cancels it if nobody waits for it any more, and lets go what they sent."""
        if all(waiter.future.done() for waiter in self.waiters):
            self.waiters = ()
            self.cancel()


def wanted_outputs(waiters: Sequence[Waiter]) -> Sequence[str]:
    """The outputs that somebody wants."""
    first = waiters[0].outputs
    if all(waiter.outputs == first for waiter in waiters):
        return first
    return tuple(dict.fromkeys(name for waiter in waiters for name in waiter.outputs))


def _nothing() -> None:
    pass
