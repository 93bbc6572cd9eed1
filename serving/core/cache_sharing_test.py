"""Who waits for whose computation, and who is asked before one begins."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.core.cache import CacheConfig, Expected, ResponseCache
from serving.core.errors import Kind, ServingError
from serving.core.request import Arrays
from serving.core.signature import TensorSpec

PATIENCE_S = 60.0


class Clock:
    """Seconds, as many as a test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def cache() -> ResponseCache:
    return ResponseCache(CacheConfig())


def answer(value: float = 1.0, size: int = 1) -> dict[str, np.ndarray]:
    return {"p": np.full(size, value, np.float64)}


async def known(target: ResponseCache, key: bytes, given: Arrays | None = None) -> bool:
    """Asks for a key, computes `given` if need be, and returns whether it was known."""

    async def compute() -> Arrays:
        return answer() if given is None else given

    return (await target.get_or_compute(key, compute))[1]


class Computation:
    """Computes when a test says so, and counts."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.result: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> Arrays:
        self.begun += 1
        try:
            return await asyncio.shield(self.result)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


Found = tuple[Arrays, bool]


def ask(
    target: ResponseCache, compute: Callable[[], Awaitable[Arrays]], key: bytes = b"a"
) -> "asyncio.Task[Found]":
    return asyncio.create_task(target.get_or_compute(key, compute))


async def turns() -> None:
    """Lets all go on that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_callers_of_one_key_share_a_computation() -> None:
    async def run() -> None:
        target, compute = cache(), Computation()
        callers = [ask(target, compute) for _ in range(5)]
        other = ask(target, compute, b"b")
        await turns()
        assert compute.begun == 2
        compute.result.set_result(answer(7.0))
        found = await asyncio.gather(*callers, other)
        assert [values["p"][0] for values, _ in found] == [7.0] * 6
        assert [was_known for _, was_known in found] == [False, True, True, True, True, False]
        assert (target.misses, target.shared, target.hits) == (2, 4, 0)

    asyncio.run(run())


def test_an_error_reaches_all_and_is_not_kept() -> None:
    async def run() -> None:
        target, compute = cache(), Computation()
        callers = [ask(target, compute) for _ in range(3)]
        await turns()
        compute.result.set_exception(ServingError(Kind.INTERNAL, "incident 1"))
        errors = await asyncio.gather(*callers, return_exceptions=True)
        assert [str(error) for error in errors] == ["incident 1"] * 3
        assert compute.begun == 1
        assert len(target) == 0
        assert not await known(target, b"a")

    asyncio.run(run())


@given(cancelled=st.lists(st.integers(0, 4), unique=True, max_size=4), late=st.booleans())
def test_whoever_is_cancelled_fails_nobody_else(cancelled: list[int], late: bool) -> None:
    async def run() -> None:
        target, compute = cache(), Computation()
        callers = [ask(target, compute) for _ in range(5)]
        await turns()
        for number in cancelled:
            callers[number].cancel()
        if late:  # the answer comes in the same moment
            await turns()
        compute.result.set_result(answer(7.0))
        found = await asyncio.gather(*callers, return_exceptions=True)
        for number, result in enumerate(found):
            if number in cancelled:
                assert isinstance(result, asyncio.CancelledError)
            else:
                assert not isinstance(result, BaseException)
                assert result[0]["p"][0] == 7.0
        assert (compute.begun, compute.cancelled) == (1, 0)

    asyncio.run(run())


def test_the_computation_is_cancelled_with_the_last_caller() -> None:
    async def run() -> None:
        target, compute = cache(), Computation()
        callers = [ask(target, compute) for _ in range(3)]
        await turns()
        for caller in callers:
            assert compute.cancelled == 0
            caller.cancel()
            await turns()
        assert compute.cancelled == 1
        assert len(target) == 0

    asyncio.run(run())


def test_nobody_joins_a_computation_that_is_being_cancelled() -> None:
    async def run() -> None:
        target, released = cache(), asyncio.Event()

        async def slow_to_stop() -> Arrays:
            try:
                await asyncio.sleep(PATIENCE_S)
            except asyncio.CancelledError:
                await released.wait()
            return answer(2.0)  # which it should not, and may

        first = ask(target, slow_to_stop)
        await turns()
        first.cancel()
        await turns()
        assert first.done()
        assert not await known(target, b"a", answer(2.0))
        bytes_of_one = target.bytes
        released.set()
        await turns()
        assert target.bytes == bytes_of_one
        found, was_known = await target.get_or_compute(b"a", slow_to_stop)
        assert (found["p"][0], was_known) == (2.0, True)

    asyncio.run(run())


@pytest.mark.parametrize("kind", [Kind.DEADLINE, Kind.CANCELLED])
def test_how_one_caller_ends_is_no_reason_for_the_others(kind: Kind) -> None:
    async def run() -> None:
        target, first, second = cache(), Computation(), Computation()
        callers = [ask(target, first), ask(target, second), ask(target, second)]
        await turns()
        first.result.set_exception(ServingError(kind, "of the first"))
        await turns()
        with pytest.raises(ServingError, match="of the first"):
            await callers[0]
        second.result.set_result(answer(2.0))
        found = await asyncio.gather(*callers[1:])
        assert [values["p"][0] for values, _ in found] == [2.0, 2.0]
        assert (first.begun, second.begun) == (1, 1)

    asyncio.run(run())


def test_a_computation_that_cancels_itself_cancels_nobody() -> None:
    async def run() -> None:
        async def compute() -> Arrays:
            raise asyncio.CancelledError

        with pytest.raises(ServingError) as raised:
            await cache().get_or_compute(b"a", compute)
        assert raised.value.kind is Kind.CANCELLED

    asyncio.run(run())


def test_no_exception_is_left_unseen() -> None:
    async def run() -> None:
        unseen: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        target = cache()

        async def fails_when_cancelled() -> Arrays:
            try:
                await asyncio.sleep(PATIENCE_S)
            finally:
                raise ServingError(Kind.INTERNAL, "while it was cancelled")

        caller = ask(target, fails_when_cancelled)
        await turns()
        caller.cancel()
        await turns()
        del caller
        gc.collect()
        await turns()
        assert unseen == []

    asyncio.run(run())


class Shelf:
    """A second level in this process, that counts what it is asked."""

    def __init__(self, answers: Mapping[bytes, Arrays], ttl_s: float) -> None:
        self.answers = dict(answers)
        self.ttl_s = ttl_s
        self.asked = 0

    async def get(self, key: bytes, expected: Expected) -> tuple[Arrays, float] | None:
        self.asked += 1
        return (self.answers[key], self.ttl_s) if key in self.answers else None

    def put(self, key: bytes, answer: Arrays) -> None:
        self.answers[key] = answer


EXPECTED = Expected((TensorSpec("p", "FP64", (-1,)),), 1)


def test_the_second_level_is_asked_before_a_computation_and_told_after_it() -> None:
    async def run() -> None:
        clock, shelf = Clock(), Shelf({b"a": answer(3.0)}, ttl_s=4.0)
        target = ResponseCache(CacheConfig(ttl_s=10.0), shelf, clock)
        compute = Computation()
        compute.result.set_result(answer(5.0))

        async def value(key: bytes) -> tuple[float, bool]:
            found, was_known = await target.get_or_compute(key, compute, EXPECTED)
            return found["p"][0], was_known

        assert [await value(b"a"), await value(b"a")] == [(3.0, True)] * 2
        assert (compute.begun, shelf.asked, target.second_hits) == (0, 1, 1)
        assert await value(b"b") == (5.0, False)
        assert shelf.answers[b"b"]["p"][0] == 5.0
        # What has come from there lives no longer here than it would there.
        clock.now = 4.0
        assert await value(b"a") == (3.0, True)
        assert shelf.asked == 3
        assert await value(b"b") == (5.0, True)

    asyncio.run(run())


def test_without_knowing_what_to_expect_the_second_level_is_not_asked() -> None:
    async def run() -> None:
        shelf = Shelf({b"a": answer(3.0)}, ttl_s=4.0)
        target = ResponseCache(CacheConfig(), shelf)
        assert not await known(target, b"a")
        assert shelf.asked == 0

    asyncio.run(run())
