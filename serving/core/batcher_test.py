"""Requests leave at once or together, and what befalls one is no other's affair."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving.core.batcher import Batcher, Part
from serving.core.channel import ReplicaLostError
from serving.core.errors import Kind, ServingError
from serving.core.request import Call, Inputs, Protocol
from serving.core.signature import TensorSpec
from serving.testing.held_channels import SUMS, HeldChannel, HeldChannels

LONG_S = 600.0  # far more than a test takes
TOKENS = replace(
    SUMS,
    inputs=(TensorSpec("tokens", "INT32", (-1, 4), limit=10, padding=-1),),
    outputs=(TensorSpec("logits", "FP32", (-1, 4, 2), follows="tokens"),),
)


def call(timeout_s: float = LONG_S) -> Call:
    return Call(Protocol.GRPC, "sums", "", "id", "client", 8, time.monotonic() + timeout_s)


def rows(*firsts: float) -> Inputs:
    return Inputs({"x": np.array([[first, 1] for first in firsts], np.float32)}, ("sum",))


def in_loop(test: Callable[[HeldChannel, Batcher], Awaitable[None]]) -> None:
    """Runs a test with one replica."""

    async def run() -> None:
        channel = HeldChannel("a")
        await test(channel, Batcher(SUMS, HeldChannels(channel)))

    asyncio.run(run())


def start(batcher: Batcher, inputs: Inputs, **options: Any) -> asyncio.Task[Part]:
    return asyncio.create_task(batcher.compute(call(**options), inputs))


async def settled() -> None:
    """Lets every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def sizes(channel: HeldChannel) -> list[int]:
    return [job.batch_size for job in channel.jobs]


async def answers(tasks: Sequence[asyncio.Task[Part]]) -> list[list[float]]:
    return [(await task).outputs["sum"].tolist() for task in tasks]


def test_a_lone_request_leaves_at_once() -> None:
    async def test(channel: HeldChannel, batcher: Batcher) -> None:
        task = start(batcher, rows(5))
        await settled()
        assert sizes(channel) == [1]
        channel.finish()
        assert await answers([task]) == [[6.0]]

    in_loop(test)


def test_requests_gather_while_a_batch_runs_and_leave_together_in_order() -> None:
    async def test(channel: HeldChannel, batcher: Batcher) -> None:
        tasks = [start(batcher, rows(*range(n, 2 * n))) for n in (1, 2, 3, 1)]
        await settled()
        assert sizes(channel) == [1]
        channel.finish()
        assert sizes(channel) == [1, 6]
        channel.finish()
        assert await answers(tasks) == [[2], [3, 4], [4, 5, 6], [2]]

    in_loop(test)


def test_a_batch_is_no_larger_than_the_model_takes() -> None:
    async def test(channel: HeldChannel, batcher: Batcher) -> None:
        tasks = [start(batcher, rows(*range(n))) for n in (1, 5, 4, 3, 2)]
        await settled()
        channel.finish()
        channel.finish()
        # The second batch is filled up by what fits; what was passed over leads the third.
        assert sizes(channel) == [1, 8, 6]
        channel.finish()
        assert [len(answer) for answer in await answers(tasks)] == [1, 5, 4, 3, 2]

    in_loop(test)


def test_one_that_is_cancelled_takes_nobody_with_it() -> None:
    async def test(channel: HeldChannel, batcher: Batcher) -> None:
        first = start(batcher, rows(0))
        tasks = [start(batcher, rows(n)) for n in (1, 2, 3)]
        await settled()
        channel.finish()
        tasks[1].cancel()
        await settled()
        channel.finish()
        assert await answers([first, tasks[0], tasks[2]]) == [[1], [2], [4]]
        assert not channel.cancelled

    in_loop(test)


def test_a_batch_is_counted_by_one_of_its_answers() -> None:
    async def test(channel: HeldChannel, batcher: Batcher) -> None:
        tasks = [start(batcher, rows(n)) for n in (1, 2, 3, 4)]
        await settled()
        channel.finish()
        tasks[1].cancel()
        await settled()
        channel.finish()
        parts = [await task for task in (tasks[0], *tasks[2:])]
        assert [(p.timings.first, p.timings.batch_size) for p in parts] == [
            (True, 1),
            (True, 3),
            (False, 3),
        ]

    in_loop(test)


def test_one_that_is_cancelled_before_it_leaves_is_not_sent() -> None:
    async def test(channel: HeldChannel, batcher: Batcher) -> None:
        tasks = [start(batcher, rows(n)) for n in (1, 2, 3)]
        await settled()
        tasks[1].cancel()
        await settled()
        channel.finish()
        channel.finish()
        assert sizes(channel) == [1, 1]
        assert await answers([tasks[0], tasks[2]]) == [[2], [4]]

    in_loop(test)


def test_a_batch_that_nobody_waits_for_is_cancelled() -> None:
    async def test(channel: HeldChannel, batcher: Batcher) -> None:
        task = start(batcher, rows(1))
        await settled()
        task.cancel()
        await settled()
        assert channel.cancelled == channel.jobs

    in_loop(test)


def test_one_whose_deadline_passes_is_told_and_not_sent() -> None:
    async def test(channel: HeldChannel, batcher: Batcher) -> None:
        first = start(batcher, rows(1))
        await settled()
        late = start(batcher, rows(2), timeout_s=0.001)
        with pytest.raises(ServingError) as raised:
            await late
        assert raised.value.kind is Kind.DEADLINE
        channel.finish()
        await first
        assert sizes(channel) == [1]

    in_loop(test)


def test_each_gets_the_outputs_that_it_asked_for() -> None:
    async def test(channel: HeldChannel, batcher: Batcher) -> None:
        first = start(batcher, rows(1))
        both = start(batcher, replace(rows(2), outputs=("double", "sum")))
        one = start(batcher, rows(3))
        await settled()
        assert tuple(channel.jobs[0].outputs) == ("sum",)
        channel.finish()
        assert set(channel.jobs[1].outputs) == {"sum", "double"}
        channel.finish()
        await first
        assert list((await both).outputs) == ["double", "sum"]
        assert list((await one).outputs) == ["sum"]

    in_loop(test)


def test_the_one_that_breaks_a_batch_fails_alone() -> None:
    async def test(channel: HeldChannel, batcher: Batcher) -> None:
        broken = ServingError(Kind.INTERNAL, "it broke")
        tasks = [start(batcher, rows(n)) for n in (0, 1, 2, 3)]
        await settled()
        channel.finish()
        channel.fail(broken)
        channel.finish()
        channel.fail(broken)
        channel.finish()
        assert sizes(channel) == [1, 3, 1, 1, 1]
        assert await answers([tasks[0], tasks[1], tasks[3]]) == [[1], [2], [4]]
        with pytest.raises(ServingError, match="it broke"):
            await tasks[2]

    in_loop(test)


def test_another_replica_computes_what_one_that_died_has_not() -> None:
    async def run() -> None:
        dying, living = HeldChannel("a"), HeldChannel("b")
        channels = HeldChannels(dying)
        batcher = Batcher(SUMS, channels)
        task = start(batcher, rows(1))
        await settled()
        channels.change(living)
        dying.fail(ReplicaLostError("gone"))
        living.finish()
        part = await task
        assert (part.outputs["sum"].tolist(), part.timings.replica, part.retries) == ([2], "b", 1)

    asyncio.run(run())


def test_a_replica_that_is_gone_and_not_yet_missed_is_not_asked_again() -> None:
    async def run() -> None:
        dying, living = HeldChannel("a"), HeldChannel("b")
        channels = HeldChannels(dying, living)
        batcher = Batcher(SUMS, channels)
        tasks = [start(batcher, rows(n)) for n in (1, 2)]
        await settled()
        dying.fail(ReplicaLostError("gone"))  # and is still among those that are connected
        later = start(batcher, rows(3))
        await settled()
        living.finish()
        living.finish()
        assert await answers([*tasks, later]) == [[2], [3], [4]]
        assert sizes(dying) == [1]

    asyncio.run(run())


def test_without_a_replica_a_request_is_refused_and_told_why() -> None:
    async def run() -> None:
        channel = HeldChannel("a")
        channels = HeldChannels(channel)
        batcher = Batcher(SUMS, channels)
        running, queued = start(batcher, rows(1)), start(batcher, rows(2))
        await settled()
        channels.change()
        channel.fail(ReplicaLostError("gone"))
        for task in (running, queued, start(batcher, rows(3))):
            with pytest.raises(ServingError, match="the replica died") as raised:
                await task
            assert raised.value.kind is Kind.UNAVAILABLE
            assert raised.value.retry_after_s

    asyncio.run(run())


def test_sequences_of_different_lengths_share_a_batch_and_get_their_own_length_back() -> None:
    async def run() -> None:
        channel = HeldChannel("a")
        batcher = Batcher(TOKENS, HeldChannels(channel))
        sequences = [[[7]], [[1, 2, 3]], [[4, 5, 6, 7], [8, 9, 0, 1]]]
        tasks = [
            start(batcher, Inputs({"tokens": np.array(tokens, np.int32)}, ("logits",)))
            for tokens in sequences
        ]
        await settled()
        channel.finish(lambda inputs: {"logits": np.stack([inputs["tokens"]] * 2, axis=2)})
        channel.finish(lambda inputs: {"logits": np.stack([inputs["tokens"]] * 2, axis=2)})
        filled = np.concatenate(channel.jobs[1].inputs["tokens"])
        assert filled.tolist() == [[1, 2, 3, -1], [4, 5, 6, 7], [8, 9, 0, 1]]
        for task, tokens in zip(tasks, sequences, strict=True):
            assert (await task).outputs["logits"][..., 0].tolist() == tokens

    asyncio.run(run())


def test_rows_of_different_sizes_are_not_mixed() -> None:
    async def run() -> None:
        channel = HeldChannel("a")
        model = replace(SUMS, inputs=(TensorSpec("x", "FP32", (-1, -1)),))
        batcher = Batcher(model, HeldChannels(channel))
        wide = Inputs({"x": np.ones((1, 3), np.float32)}, ("sum",))
        tasks = [start(batcher, inputs) for inputs in (rows(0), rows(1), wide, rows(2))]
        await settled()
        for _ in range(3):
            channel.finish()
        assert [len(job.inputs["x"]) for job in channel.jobs] == [1, 2, 1]
        assert await answers(tasks) == [[1], [2], [3], [3]]

    asyncio.run(run())
