"""A batch that nobody waits for any more leaves its replica and the breaker as others find them."""

import asyncio
import time
from contextlib import suppress

import numpy as np

from serving.core.batcher import Batcher, Part
from serving.core.errors import Kind, ServingError
from serving.core.model_policy import ModelPolicy
from serving.core.request import Call, Inputs, Protocol
from serving.policies.breaker import BreakerConfig
from serving.testing.held_channels import SUMS, HeldChannel, HeldChannels

OPEN_S = 0.001


def start(batcher: Batcher, first: float) -> asyncio.Task[Part]:
    call = Call(Protocol.GRPC, "sums", "", "id", "client", 8, time.monotonic() + 600)
    inputs = Inputs({"x": np.array([[first, 1]], np.float32)}, ("sum",))
    return asyncio.create_task(batcher.compute(call, inputs))


async def settled() -> None:
    """Lets every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_those_who_wait_go_on_once_the_replica_is_free() -> None:
    async def test() -> None:
        channel = HeldChannel("a")
        batcher = Batcher(SUMS, HeldChannels(channel))
        gone = start(batcher, 1)
        await settled()
        tasks = [start(batcher, n) for n in (2, 3)]
        await settled()
        gone.cancel()
        await settled()
        assert [job.batch_size for job in channel.jobs] == [1]  # it is not free yet
        channel.finish()
        assert [job.batch_size for job in channel.jobs] == [1, 2]  # and nobody else had to come
        channel.finish()
        assert [(await task).outputs["sum"].tolist() for task in tasks] == [[3], [4]]

    asyncio.run(test())


def test_a_probe_of_the_breaker_that_is_cancelled_makes_room_for_another() -> None:
    async def test() -> None:
        channel = HeldChannel("a")
        breaker = BreakerConfig(max_consecutive_failures=1, open_s=OPEN_S, jitter=0, probes=1)
        batcher = Batcher(SUMS, HeldChannels(channel), ModelPolicy(breaker=breaker))
        fails = start(batcher, 1)
        await settled()
        channel.fail(ServingError(Kind.INTERNAL, "1f2e", reason="model_failed"))
        with suppress(ServingError):
            await fails
        await asyncio.sleep(2 * OPEN_S)
        probe = start(batcher, 2)
        await settled()
        assert len(channel.jobs) == 2
        probe.cancel()
        await settled()
        channel.finish()
        other = start(batcher, 3)
        await settled()
        channel.finish()
        assert (await other).outputs["sum"].tolist() == [4]

    asyncio.run(test())
