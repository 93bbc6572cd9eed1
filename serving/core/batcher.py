"""Requests to batches, and batches to replicas.

A lone request leaves at once. While all replicas compute, requests gather, and leave together as
soon as one is free: the cost of a call is paid once a batch, and nobody waits for a timer.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence

from serving.core.channel import Channel, Channels, Computed, Job, ReplicaLostError
from serving.core.errors import Kind, ServingError
from serving.core.gate import Gate, Work, late, no_replica
from serving.core.model import ServedModel
from serving.core.model_policy import ModelPolicy
from serving.core.patience import Patience
from serving.core.request import Call, Inputs, Timings
from serving.core.settling import settle
from serving.core.waiter import Part, Running, Waiter, wanted_outputs
from serving.policies.bounded_queue import BoundedQueue
from serving.policies.retry_budget import RetryBudget

# A batch that takes longer than this, seconds, and so many times what is expected, will not end.
_HUNG_S = 1.0
_HUNG_TIMES = 10.0

# Replicas that a request is sent to at most. One that kills two should not meet a third.
MAX_ATTEMPTS = 2


class Batcher:
    """The way of one model's requests to its replicas. It is used from one event loop.

    Args:
        model: which.
        channels: its replicas.
        policy: its limits.

    Attributes:
        gate: what lets requests in.
        queue: those that wait for a replica.
        pending: requests that are not answered yet.
        shed: how many were refused or displaced, by reason.
        retries: how many were sent to another replica.
    """

    def __init__(
        self, model: ServedModel, channels: Channels, policy: ModelPolicy | None = None
    ) -> None:
        policy = policy or ModelPolicy()
        self.gate = Gate(model, policy)
        self.queue: BoundedQueue[Waiter] = BoundedQueue(policy.queue)
        self.pending = 0
        self.retries = 0
        self._running: set[Running] = set()
        self._model = model
        self._channels = channels
        self._refuses_nonfinite = policy.nonfinite == "refuse"
        self._jobs_per_replica = policy.max_jobs_per_replica
        self._max_bytes = policy.queue.max_bytes
        self._budget = RetryBudget(policy.retry)
        self._patience = Patience(policy.gathering, self._pump)
        self._idle = asyncio.Event()
        self._idle.set()
        # A job is told that its replica is gone before the set of replicas is.
        self._lost: set[Channel] = set()
        channels.subscribe(self._on_change)

    async def compute(self, call: Call, inputs: Inputs) -> Part:
        """Has a request computed in some batch.

        Cancelled, it is computed only if it has left already.

        Raises:
            ServingError: it was not computed, or the computation failed.
        """
        waiter = self._enter(call, inputs)
        self.pending += 1
        self._idle.clear()
        try:
            self._push(waiter)
            self._pump()
            return await waiter.future
        finally:
            self.pending -= 1
            if not self.pending:
                self._idle.set()
            if waiter.timer is not None:
                waiter.timer.cancel()
            if waiter.future.cancelled():
                self._forget(waiter)

    async def idle(self) -> None:
        """Returns once every request is answered."""
        await self._idle.wait()

    def _enter(self, call: Call, inputs: Inputs) -> Waiter:
        now = time.monotonic()
        if call.size_bytes > self._max_bytes:
            large = f"a request of {call.size_bytes:,} bytes; at most {self._max_bytes:,} may wait"
            raise ServingError(Kind.TOO_LARGE, f"{large} for model {self._model.name!r}")
        if not self._channels.connected:
            raise no_replica(self._model, self._channels)
        work = self._work(now, self.queue.examples_before(call.priority))
        self.gate.check(now, work, remaining_s=call.deadline - now, size=inputs.batch_size)
        return Waiter(call, inputs, self._model, now, self.gate.breaker.epoch)

    def _push(self, waiter: Waiter) -> None:
        now = waiter.queued_at
        self._patience.arrived(now, is_first=not self.queue.count)
        removed = self.queue.push(waiter, now)
        if removed is not None:
            self._expire(removed.expired)
            for other in removed.shed:
                self._abandon(other, self._full(now))
        loop = asyncio.get_running_loop()
        waiter.timer = loop.call_later(waiter.deadline - now, self._on_deadline, waiter)

    def _work(self, now: float, ahead: int) -> Work:
        """What there is to do, of which so many examples come before one more request."""
        running_s = 0.0
        if self._free_channel() is None:
            estimate = self.gate.service_time.estimate
            ends = [running.sent_at + estimate(running.size) for running in self._running]
            running_s = max(0.0, min(ends, default=now) - now)
        running = sum([batch.size for batch in self._running])
        return Work(self.pending, running, ahead, len(self._channels.connected), running_s)

    def _full(self, now: float) -> ServingError:
        return self.gate.overloaded("queue_full", self._work(now, self.queue.examples))

    def _on_deadline(self, waiter: Waiter) -> None:
        if not waiter.future.done():
            waiter.fail(late())
            running = waiter.running
            if running is not None:
                # Lost for want of capacity, or at a replica that hangs: both who limit should know.
                now = time.monotonic()
                self.gate.concurrency.record(now, 0.0, self.pending, dropped=True)
                # A caller with little patience says nothing about the model.
                ran_s = now - running.sent_at
                expected_s = self.gate.service_time.estimate(running.size)
                if ran_s > max(_HUNG_S, _HUNG_TIMES * expected_s):
                    self.gate.breaker.record(now, False, ran_s, running.epoch)
            self._forget(waiter)

    def _expire(self, waiters: Iterable[Waiter]) -> None:
        for waiter in waiters:
            self._abandon(waiter, late())

    def _abandon(self, waiter: Waiter, error: ServingError) -> None:
        """Ends one that was let in and is not computed."""
        self.gate.breaker.cancelled(waiter.epoch)
        waiter.fail(error)

    def _forget(self, waiter: Waiter) -> None:
        """Nobody waits for it any more."""
        if self.queue.cancel(waiter):
            self.gate.breaker.cancelled(waiter.epoch)
        if waiter.running is not None:
            waiter.running.abandon_if_unwanted()

    def _on_change(self) -> None:
        """Replicas have come or gone."""
        self._lost.intersection_update(self._channels.connected)
        self._pump()

    def _pump(self) -> None:
        """Sends as much as replicas can take now."""
        queue = self.queue
        while queue.count and (channel := self._free_channel()) is not None:
            now = time.monotonic()
            if self._patience.is_on and self._wait_for_more(now):
                return
            popped = queue.pop_batch(self._model.max_batch_size, now)
            if popped.expired:
                self._expire(popped.expired)
            if popped.batch:
                self._patience.left(now)
                self._send(channel, popped.batch, now)
        if queue.count and not self._channels.connected:
            self._refuse_all()

    def _refuse_all(self) -> None:
        now = time.monotonic()
        error = no_replica(self._model, self._channels)
        while self.queue.count:
            popped = self.queue.pop_batch(self._model.max_batch_size, now)
            for waiter in [*popped.batch, *popped.expired]:
                self._abandon(waiter, error)

    def _wait_for_more(self, now: float) -> bool:
        """Whether those that wait should go on waiting, though a replica is free."""
        if self.queue.examples >= self._model.max_batch_size:
            return False
        return self._patience.waits(now, self.gate.service_time.per_batch_s)

    def _free_channel(self) -> Channel | None:
        """The replica with the least to do, if it can take another batch."""
        best, fewest = None, self._jobs_per_replica
        for channel in self._channels.connected:
            in_flight = channel.in_flight
            if in_flight < fewest and channel not in self._lost:
                best, fewest = channel, in_flight
        return best

    def _send(self, channel: Channel, waiters: Sequence[Waiter], now: float) -> None:
        running = Running(channel, waiters, now, self.gate.breaker.epoch)
        for waiter in waiters:
            waiter.running, waiter.sent_at = running, now
            waiter.attempts += 1
        job = Job(
            inputs={
                spec.name: [waiter.arrays[spec.name] for waiter in waiters]
                for spec in self._model.inputs
            },
            batch_size=running.size,
            outputs=wanted_outputs(waiters),
            timeout_s=max([waiter.deadline for waiter in waiters]) - now,
        )
        self._budget.add(now, len(waiters))
        self._running.add(running)
        running.cancel = channel.submit(job, lambda result: self._done(running, result))

    def _done(self, running: Running, result: Computed | ReplicaLostError | ServingError) -> None:
        now = time.monotonic()
        self._running.discard(running)
        self.gate.learn(running, result, now)
        waiters = [waiter for waiter in running.waiters if not waiter.future.done()]
        if isinstance(result, Computed):
            self._answer(running, result, now)
        elif isinstance(result, ReplicaLostError):
            self._lost.add(running.channel)
            self._retry(waiters, now)
        elif result.kind is Kind.INTERNAL and len(running.waiters) > 1:
            self._compute_alone(waiters, now)
        else:
            for waiter in waiters:
                waiter.fail(result)
        self._pump()

    def _answer(self, running: Running, computed: Computed, now: float) -> None:
        start, first = 0, True
        took_s = max(now - running.sent_at, 1e-9)
        for waiter in running.waiters:
            end = start + waiter.size
            if not waiter.future.done():
                stretch = (now - waiter.queued_at) / took_s
                self.gate.concurrency.record(now, stretch, self.pending)
                queue_s = waiter.sent_at - waiter.queued_at
                timings = Timings(
                    queue_s, computed.infer_s, running.size, computed.replica, first=first
                )
                first = False
                outputs = {name: computed.outputs[name][start:end] for name in waiter.outputs}
                settle(
                    waiter,
                    self._model,
                    outputs,
                    timings,
                    may_be_nonfinite=computed.nonfinite,
                    refuses_nonfinite=self._refuses_nonfinite,
                )
            start = end

    def _retry(self, waiters: Sequence[Waiter], now: float) -> None:
        """Another replica computes what one that died has not."""
        for waiter in waiters:
            can_go = self._has_other() and waiter.attempts < MAX_ATTEMPTS
            if can_go and self._budget.take(now):
                self.retries += 1
                self._again(waiter, now)
            else:
                waiter.fail(no_replica(self._model, self._channels))

    def _has_other(self) -> bool:
        return any(channel not in self._lost for channel in self._channels.connected)

    def _compute_alone(self, waiters: Sequence[Waiter], now: float) -> None:
        """One request may be the cause, and its neighbours should not pay for it."""
        for waiter in waiters:
            waiter.key = id(waiter)
            self._again(waiter, now)

    def _again(self, waiter: Waiter, now: float) -> None:
        waiter.running = None
        waiter.epoch = self.gate.breaker.epoch
        waiter.priority = 1  # it has waited once
        removed = self.queue.push(waiter, now)
        if removed is not None:
            self._expire(removed.expired)
            for other in removed.shed:
                self._abandon(other, self._full(now))
