"""What cannot be answered is refused at once, and told when to come back."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from serving.core.batcher import Batcher, Part
from serving.core.channel import Computed, ReplicaLostError
from serving.core.errors import Kind, ServingError
from serving.core.model_policy import ModelPolicy
from serving.core.request import Call, Inputs, Protocol
from serving.testing.held_channels import SUMS, HeldChannel, HeldChannels, sums

LONG_S = 600.0


class House:
    """One batcher with one replica that answers when told."""

    def __init__(self, policy: ModelPolicy) -> None:
        self.channel = HeldChannel("a")
        self.channels = HeldChannels(self.channel)
        self.batcher = Batcher(SUMS, self.channels, policy)

    def start(
        self, *firsts: float, timeout_s: float = LONG_S, priority: int = 0, size_bytes: int = 8
    ) -> asyncio.Task[Part]:
        deadline = time.monotonic() + timeout_s
        call = Call(Protocol.GRPC, "sums", "", "id", "client", size_bytes, deadline, priority)
        inputs = Inputs({"x": np.array([[first, 1] for first in firsts], np.float32)}, ("sum",))
        return asyncio.create_task(self.batcher.compute(call, inputs))

    async def refused(self, *firsts: float, **options: Any) -> ServingError:
        with pytest.raises(ServingError) as raised:
            await self.start(*firsts, **options)
        return raised.value


def in_loop(test: Callable[[House], Awaitable[None]], **policy: Any) -> None:
    async def run() -> None:
        await test(House(ModelPolicy.model_validate(policy)))

    asyncio.run(run())


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_can_never_wait_is_not_told_to_come_back() -> None:
    async def test(house: House) -> None:
        error = await house.refused(1, size_bytes=2049)
        assert (error.kind, error.retry_after_s) == (Kind.TOO_LARGE, None)
        assert "2,049 bytes; at most 2,048" in error.message
        task = house.start(1, size_bytes=2048)
        await settled()
        house.channel.finish()
        assert (await task).outputs["sum"][0] == 2

    in_loop(test, queue={"max_bytes": 2048})


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def test(house: House) -> None:
        tasks = [house.start(n) for n in (1, 2, 3)]
        await settled()
        error = await house.refused(4)
        assert (error.kind, error.reason) == (Kind.OVERLOADED, "queue_full")
        assert error.retry_after_s
        house.channel.finish()
        house.channel.finish()
        assert [(await task).outputs["sum"][0] for task in tasks] == [2, 3, 4]

    in_loop(test, queue={"max_requests": 2})


def test_an_urgent_request_takes_the_place_of_one_that_is_not() -> None:
    async def test(house: House) -> None:
        running, waiting = house.start(1), house.start(2)
        await settled()
        urgent = house.start(3, priority=1)
        with pytest.raises(ServingError, match="too many requests wait"):
            await waiting
        house.channel.finish()
        house.channel.finish()
        assert (await urgent).outputs["sum"].tolist() == [4]
        await running

    in_loop(test, queue={"max_requests": 1})


def test_more_at_once_than_the_adaptive_limit_are_refused() -> None:
    async def test(house: House) -> None:
        tasks = [house.start(n) for n in (1, 2)]
        await settled()
        error = await house.refused(3)
        assert (error.kind, error.reason) == (Kind.OVERLOADED, "concurrency_limit")
        house.channel.finish()
        house.channel.finish()
        await asyncio.gather(*tasks)

    in_loop(test, concurrency={"min_limit": 1, "initial_limit": 2})


def test_a_deadline_that_cannot_be_met_is_refused_before_it_passes() -> None:
    async def test(house: House) -> None:
        for _ in range(3):  # batches that take a tenth of a second, by the batcher's own clock
            task = house.start(1)
            await settled()
            time.sleep(0.1)  # noqa: ASYNC251  it is the time that the replica takes
            house.channel.finish()
            await task
        error = await house.refused(1, timeout_s=0.01)
        assert (error.kind, error.reason) == (Kind.OVERLOADED, "deadline_unmeetable")
        assert "give it more time" in error.message  # nobody else waits: not "try again later"
        assert len(house.channel.jobs) == 3
        assert (await house.refused(1, timeout_s=0)).kind is Kind.DEADLINE

    in_loop(test, service_time={"skip": 0})


def learn(house: House, per_example_s: float) -> None:
    """Has the batcher know how long batches take: an example costs as much in one as alone."""
    for size in [1, 2, 4, 8] * 8:
        house.batcher.gate.service_time.record(size, per_example_s * size)


def test_the_batch_that_is_computed_counts_for_whether_a_deadline_can_be_met() -> None:
    async def test(house: House) -> None:
        learn(house, 100.0)
        running = house.start(1)
        await settled()
        error = await house.refused(2, timeout_s=150.0)
        assert (error.kind, error.reason) == (Kind.OVERLOADED, "deadline_unmeetable")
        waiting = house.start(3, timeout_s=250.0)
        await settled()
        house.channel.finish()
        house.channel.finish()
        await asyncio.gather(running, waiting)

    in_loop(test)


def test_a_batch_that_took_too_long_for_all_who_waited_is_learned_from() -> None:
    async def test(house: House) -> None:
        learn(house, 0.001)
        task = house.start(1)
        await settled()
        task.cancel()
        await settled()
        time.sleep(0.1)  # noqa: ASYNC251  it is the time that the replica takes
        house.channel.finish()
        assert house.batcher.gate.service_time.estimate(1) > 0.005

    in_loop(test, service_time={"window": 2})


def test_once_one_was_refused_only_those_are_taken_who_are_answered_soon() -> None:
    async def test(house: House) -> None:
        learn(house, 1.0)
        tasks = [house.start(n) for n in range(4)]
        await settled()
        assert (await house.refused(5)).reason == "latency_bound"
        house.channel.finish()
        # There is no burst now: none takes the place of the one that is done.
        error = await house.refused(6)
        assert (error.kind, error.reason) == (Kind.OVERLOADED, "latency_bound")
        assert error.retry_after_s
        house.channel.finish()
        await asyncio.gather(*tasks)

    # Within 2.5 times what a lone one takes, one that is computed and one and a half that wait.
    in_loop(test, latency={"burst": 4, "tolerance": 2.5})


def test_only_those_count_for_an_urgent_one_that_come_before_it() -> None:
    async def test(house: House) -> None:
        learn(house, 1.0)
        tasks = [house.start(n) for n in range(3)]
        await settled()
        assert (await house.refused(4)).reason == "latency_bound"
        tasks.append(house.start(5, priority=1))
        await settled()
        house.channel.finish()
        house.channel.finish()
        await asyncio.gather(*tasks)

    in_loop(test, latency={"burst": 1, "tolerance": 2.5})


def test_a_model_that_fails_is_left_alone_for_a_while() -> None:
    async def test(house: House) -> None:
        for _ in range(3):
            task = house.start(1)
            await settled()
            house.channel.fail(ServingError(Kind.INTERNAL, "it broke"))
            with pytest.raises(ServingError, match="it broke"):
                await task
        error = await house.refused(1)
        assert (error.kind, error.reason) == (Kind.UNAVAILABLE, "breaker_open")
        assert error.retry_after_s
        assert len(house.channel.jobs) == 3

    in_loop(test, breaker={"max_consecutive_failures": 3, "open_s": 60})


def test_errors_of_callers_do_not_open_the_breaker() -> None:
    async def test(house: House) -> None:
        for _ in range(5):
            task = house.start(1)
            await settled()
            house.channel.fail(ServingError(Kind.INVALID, "not so"))
            with pytest.raises(ServingError, match="not so"):
                await task
        task = house.start(1)
        await settled()
        house.channel.finish()
        await task

    in_loop(test, breaker={"max_consecutive_failures": 3})


def test_retries_are_a_share_of_requests_and_no_more() -> None:
    async def test(house: House) -> None:
        tasks = [house.start(n) for n in (1, 2)]
        await settled()
        other = HeldChannel("b")
        house.channels.connected = [other]
        house.channel.fail(ReplicaLostError("gone"))
        other.finish()
        with pytest.raises(ServingError, match="no replica that can answer"):
            await tasks[0]
        await tasks[1]
        assert house.batcher.retries == 0

    in_loop(test, retry={"share": 0.0, "min_per_s": 0.0})


@pytest.mark.parametrize("policy", ["refuse", "allow"])
def test_an_answer_that_is_no_number_is_refused_unless_allowed_and_alone(policy: str) -> None:
    def overflow(inputs: Any) -> dict[str, np.ndarray]:
        with np.errstate(over="ignore"):
            return {"sum": (inputs["x"] * np.float32(3e38)).sum(axis=1)}

    async def test(house: House) -> None:
        first, large, small = house.start(0), house.start(9), house.start(-0.5)
        await settled()
        house.channel.finish()
        job, on_done = house.channel._waiting.pop(0)
        outputs = overflow({"x": np.concatenate(job.inputs["x"])})
        on_done(Computed(outputs, 0.001, "a", nonfinite=True))
        await first
        assert np.isfinite((await small).outputs["sum"]).all()
        if policy == "allow":
            part = await large
            assert np.isinf(part.outputs["sum"]).all()
            assert part.nonfinite
        else:
            with pytest.raises(ServingError, match="output 'sum' .* is not finite") as raised:
                await large
            assert raised.value.kind is Kind.INVALID

    in_loop(test, nonfinite=policy)


def test_a_lone_request_waits_for_nobody_even_where_requests_may_gather() -> None:
    async def test(house: House) -> None:
        task = house.start(1)
        await settled()
        house.channel.finish(sums)
        await task

    in_loop(test, gathering={"max_queue_delay_s": 30})
